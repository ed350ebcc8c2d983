"""The API beside PostgreSQL itself and beside two programs of others, in one run.

Run by `make bench` (BENCH_SIZE=small for a look of three minutes). One partner, 92 days, of a mart
of a million rows; 8 connections; the load program shares the cores in every case. The reference is
`pgbench -M prepared` with the statement that the API sends: the same JSON, freshness and parity
under the same row-level security, as the same role. What pgbench is spared: role and scope are set
once per session, and nobody checks a key, parameters or limits. No server logs requests that went
well. The rounds take turns, and each
ratio is of one round, so that a busy moment of the machine is shared by all.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from api_warehouse import ApiWarehouse, served_by
from bench import contestants as who
from bench.data import DAYS, ORGANIZATION, SIZES, WINDOW_DAYS, Question, copy_to_sqlite, fill
from bench.data import questions as questions_of
from bench.load import Asked, Figure, with_processor
from built import BuiltWarehouse
from server_process import ServerProcess
from werkzeug.datastructures import MultiDict

from api.access.auth import Principal
from api.reporting import query
from api.reporting.deployed import Served
from clusters import PROJECT_DIR, Cluster, make_folder
from warehouse.catalogue import deploy

SIZE_NAME = os.environ.get("BENCH_SIZE", "full")
SIZE = SIZES[SIZE_NAME]
TARGETS = {"uncached": 0.5, "cached": 2.0, "304": 2.0}
"""The least ratios to pgbench."""
REFERENCE = "pgbench"
HOT, ALL = 50, 20_000
"""Different questions: those that a cache answers, and those that are too many for it."""
RESULTS = PROJECT_DIR / "bench-results.json"


@pytest.fixture
def folder() -> Iterator[Path]:
    made = make_folder()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def filled(server18: Cluster) -> Iterator[BuiltWarehouse]:
    made = BuiltWarehouse(server18, "bench")
    made.renew()
    fill(made, SIZE)
    deploy(made.settings)
    yield made
    made.close()


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_one_question_to_all(server18: Cluster, filled: BuiltWarehouse, folder: Path) -> None:
    warehouse = ApiWarehouse(settings=served_by(server18, filled.settings))
    key = warehouse.key("bench", organization=[ORGANIZATION])
    with ExitStack() as stack:
        everyone = [
            *references(warehouse, server18, filled, folder),
            *stack.enter_context(serving(warehouse, key, folder)),
            *peers(stack, warehouse, filled, key, folder),
        ]
        check(everyone)
        rounds: dict[str, list[Figure]] = {each.name: [] for each in everyone}
        for each in everyone:
            each.measure(1)
        for _ in range(SIZE.rounds):
            for each in random.sample(everyone, len(everyone)):
                figure = with_processor(each.measure, SIZE.seconds, server18.settings.home)
                assert figure.errors == 0, f"{each.name}: {figure}"
                assert each.largest is None or figure.size < each.largest, figure
                rounds[each.name].append(figure)
    report(rounds)


def references(
    warehouse: ApiWarehouse, cluster: Cluster, filled: BuiltWarehouse, folder: Path
) -> list[who.Contestant]:
    """The API's own statement, and a plain one that knows rows only."""
    question = Question("100007", date(2024, 2, 29))
    days = DAYS - WINDOW_DAYS
    plain = f"""
        select string_agg(row_to_json(r)::text, ',') from (
            select day, partner_id, spend, revenue, margin, events, impressions, clicks
            from reporting.daily_metrics
            where organization_id = '{ORGANIZATION}' and partner_id = '{question.partner_id}'
                and day between '{question.first}'::date and '{question.last}'::date
            order by organization_id, day, partner_id limit 501
        ) as r
    """
    return [
        who.pgbench(
            name,
            warehouse,
            cluster.programs,
            folder,
            who.as_script(statement, question),
            partners=SIZE.partners,
            days=days,
        )
        for name, statement in (
            (REFERENCE, statement_of(filled, question)),
            ("pgbench, rows only", plain),
        )
    ]


def statement_of(filled: BuiltWarehouse, question: Question) -> str:
    """The statement that the API has prepared for a question."""
    served = Served.of(filled.catalogue, "").mart("daily-metrics")
    scope = {"organization": (ORGANIZATION,), "partner": ("*",)}
    principal = Principal(id="bench", name="bench", role="reader", scope=scope, expires_at=None)
    arguments = {
        "from": str(question.first), "to": str(question.last), "partner_id": question.partner_id
    }  # fmt: skip
    asked = served.parameters.request(MultiDict(arguments))
    message = query.message(served, asked, principal, None, timeout_ms=10_000)
    connection = psycopg2.connect(str(filled.settings.database_url))
    text: str = message.compose().as_string(connection)
    connection.close()
    return text


@contextmanager
def serving(warehouse: ApiWarehouse, key: str, folder: Path) -> Iterator[list[who.Contestant]]:
    """The API: each request another window, or some windows again and again, or their 304."""
    server = ServerProcess(warehouse, folder / "api.log", OVERSIGHT_LOG_SAMPLE="0")
    try:
        server.wait_until_ready()
        address = f"http://127.0.0.1:{server.port}"
        every = [who.ours(key, item) for item in questions_of(SIZE, ALL)]
        hot = every[:HOT]
        found = [
            who.by_wrk("uncached", address, folder, every, lambda item: who.ours(key, item)),
            who.by_wrk("cached", address, folder, hot, lambda item: who.ours(key, item)),
        ]
        tags = [who.tag_of(address, item) for item in hot]
        if all(tags):
            known = [
                Asked(item.path, (*item.headers, ("If-None-Match", str(tag))))
                for item, tag in zip(hot, tags, strict=True)
            ]
            found.append(
                who.by_wrk(
                    "304", address, folder, known, lambda item: who.ours(key, item), largest=1000
                )
            )
        yield found
    finally:
        server.stop()


def peers(
    stack: ExitStack, warehouse: ApiWarehouse, filled: BuiltWarehouse, key: str, folder: Path
) -> list[who.Contestant]:
    """FastAPI and Datasette, where `make bench` has installed them."""
    if not who.PEERS_PYTHON.exists():
        sys.stdout.write(f"\n{who.PEERS_PYTHON.parent.parent} is missing: no peers\n")
        return []
    sqlite = folder / "marts.db"
    copy_to_sqlite(filled, sqlite)
    variables = {
        "PEER_KEY": key,
        "PEER_ORGANIZATION": ORGANIZATION,
        "PEER_DSN": str(warehouse.settings.api_database_url),
        "PEER_SQLITE": str(sqlite),
    }
    programs = {
        "FastAPI and asyncpg": ("peer_fastapi:app", {}),
        "the same, by session": ("peer_fastapi:app", {"PEER_SESSION": "yes"}),
        "Datasette on SQLite": ("peer_datasette:make", {}),
    }

    def to_fastapi(item: Question) -> Asked:
        return Asked(
            f"/daily-metrics?partner_id={item.partner_id}&first={item.first}&last={item.last}",
            (("Authorization", f"Bearer {key}"),),
        )

    def to_datasette(item: Question) -> Asked:
        return Asked(
            f"/marts/daily_metrics.json?_shape=array&partner_id={item.partner_id}"
            f"&first={item.first}&last={item.last}"
        )

    every = questions_of(SIZE, ALL)
    found = []
    for name, (module, extra) in programs.items():
        to = to_datasette if module.startswith("peer_datasette") else to_fastapi
        address = stack.enter_context(who.peer(module, folder, **variables, **extra))
        found.append(who.by_wrk(name, address, folder, [to(item) for item in every], to))
    return found


def check(everyone: list[who.Contestant]) -> None:
    """All give the same rows for the same questions."""
    for question in questions_of(SIZE, 5):
        answers = {each.name: each.answer(question) for each in everyone}
        expected = answers[REFERENCE]
        assert len(expected) == WINDOW_DAYS
        assert expected[0]["day"] == str(question.first)
        for name, rows in answers.items():
            assert rows == expected, f"{name} answers otherwise than {REFERENCE}"


def report(rounds: dict[str, list[Figure]]) -> None:
    """Print the table and keep it."""
    results: dict[str, Any] = {}
    lines = [
        f"{SIZE.rows:,} rows, {SIZE.rounds} rounds of {SIZE.seconds} s, 8 connections,"
        f" {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians (least to most)",
        f"  {'':21}{'answers/s':>21}{'of pgbench':>18}{'ms of processor':>20}   ms: p50, p95, p99",
    ]
    for name, figures in rounds.items():
        rates = [figure.rate for figure in figures]
        ratios = [
            figure.rate / reference.rate
            for figure, reference in zip(figures, rounds[REFERENCE], strict=True)
        ]
        costs = [figure.processor for figure in figures]
        waits = [statistics.median(getattr(f, p) for f in figures) for p in ("p50", "p95", "p99")]
        target = TARGETS.get(name)
        lines.append(
            f"  {name:21}{spread(rates, 0):>21}{spread(ratios, 2):>18}{spread(costs, 2):>20}   "
            + ", ".join(f"{wait:.2f}" for wait in waits)
            + (f"   target {target}: {verdict(ratios, target)}" if target else "")
        )
        results[name] = {
            "rates": rates,
            "ratios": ratios,
            "processor_ms": costs,
            "p50_p95_p99_ms": waits,
        }
    RESULTS.write_text(
        json.dumps(
            {"size": SIZE_NAME, "rows": SIZE.rows, "load": os.getloadavg(), "results": results},
            indent=1,
        )
    )
    sys.stdout.write("\n" + "\n".join(lines) + f"\n  kept in {RESULTS.name}\n")


def spread(values: list[float], digits: int) -> str:
    """The median with the least and the most."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({least:,.{digits}f}-{most:,.{digits}f})"


def verdict(ratios: list[float], target: float) -> str:
    """Whether the median is there."""
    return "reached" if statistics.median(ratios) >= target else "missed"
