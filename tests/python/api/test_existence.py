"""Whether another organization has rows cannot be told: not from an answer, nor from its cost."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from api_warehouse import PARTNERS, ApiWarehouse, json_of, make_warehouse, served_by

from api.app import create_app
from clusters import Cluster

BASE = "/api/reporting/v1"
ROLES = {
    "reader": {"organization": ["alpha"]},
    "operator": {"organization": ["alpha"]},
    "agent": {"organization": ["alpha"], "partner": [PARTNERS[0]]},
}
WINDOW = "from=2026-09-01&to=2026-10-30"
BETA_ONLY = "linkedin:77"
PATHS = [
    "/daily-metrics", f"/daily-metrics?{WINDOW}&page_size=7", "/daily-metrics?from=2020-01-01",
    f"/daily-metrics?partner_id={PARTNERS[0]}", f"/daily-metrics?partner_id={BETA_ONLY}&{WINDOW}",
    "/daily-metrics?partner_id=never:seen", f"/daily-metrics?{WINDOW}&fields=spend",
    "/weekly-partner-performance?week=2026-W40",
    f"/weekly-partner-performance?partner_id={BETA_ONLY}",
    f"/operations?{WINDOW}", "/metadata/parity", "/metadata/parity?verdict=failed&page_size=10",
    f"/metadata/parity?partner_id={BETA_ONLY}", "/metadata/refresh", "/marts", "/nothing",
    "/daily-metrics?page=made.up", "/daily-metrics?organization_id=beta",
]  # fmt: skip
REPEATED = 3
OF_THE_REQUEST = ("Server-Timing", "Date", "RateLimit", "RateLimit-Reset", "RateLimit-Remaining")
_COST = """
select
    (select sum(seq_tup_read) from pg_stat_user_tables)
        + (select sum(idx_tup_read) from pg_stat_user_indexes),
    (select sum(coalesce(heap_blks_read, 0) + coalesce(heap_blks_hit, 0)
        + coalesce(idx_blks_read, 0) + coalesce(idx_blks_hit, 0)) from pg_statio_user_tables),
    (select sum(seq_scan + coalesce(idx_scan, 0)) from pg_stat_user_tables)
"""
_ALPHA = """
delete from reporting.daily_metrics where organization_id = 'beta';
delete from reporting.weekly_partner_performance where organization_id = 'beta';
delete from reporting.operations where organization_id = 'beta';
delete from metadata.data_versions where organization_id = 'beta';
update metadata.data_versions set last_refresh_at = '2026-10-30 12:00+00';
insert into metadata.refresh_log
(job_name, started_at, finished_at, status, rows_affected, models)
values
('daily_metrics', '2026-10-30 12:00+00', '2026-10-30 12:01+00', 'success', 5, '{daily_metrics}');
"""
_BETA = f"""
insert into reporting.daily_metrics
select 'beta', day::date, '{BETA_ONLY}', 1, 1
from generate_series(date '2026-09-01', '2026-10-30', '1 day') as day;
insert into metadata.data_versions
(model, organization_id, last_refresh_at, data_through, stale_after)
select mart, 'beta', '2026-11-19', '2026-11-19', '2026-11-19'
from unnest('{{daily_metrics,weekly_partner_performance,operations}}'::text[]) as mart;
insert into metadata.held_keys (model, organization_id, key, held_since)
select 'daily_metrics', 'beta', jsonb_build_array(number), '2026-11-01'
from generate_series(1, 2000) as number;
insert into metadata.refresh_log
(job_name, started_at, finished_at, status, models)
values
('backfill only_of_beta', '2026-11-18', '2026-11-19', 'failed', '{{}}'),
('pull only_of_beta', '2026-11-19', null, 'running', '{{}}');
"""


def rows(organization: str, prefix: str, last: int) -> str:
    """Rows of both marts and verdicts of the partners 100 to `last`."""
    numbers = f"generate_series(100, {last}) as number"
    return f"""
    insert into reporting.daily_metrics
    select '{organization}', day::date, '{prefix}' || number, number, number
    from generate_series(date '2026-07-01', '2026-11-20', '1 day') as day, {numbers};
    insert into reporting.weekly_partner_performance
    select '{organization}', day::date, '{prefix}' || number, number
    from generate_series(date '2026-06-29', '2026-11-16', '7 days') as day, {numbers};
    insert into metadata.parity_verdicts
    (organization_id, mart, partner_id, period, metric, verdict, checked_at)
    select
        '{organization}', 'daily_metrics', '{prefix}' || number, day::date, 'spend',
        case number % 3 when 0 then 'failed' when 1 then 'ok' else 'unchecked' end, '2026-10-30'
    from generate_series(date '2026-10-01', '2026-10-30', '1 day') as day, {numbers};
    """


@dataclass(frozen=True, kw_only=True)
class Worlds:
    """The same warehouse without and with another organization; keys by role hold in both."""

    without: ApiWarehouse
    within: ApiWarehouse
    keys: dict[str, str]
    everything: str


@pytest.fixture(scope="module")
def worlds(server18: Cluster) -> Iterator[Worlds]:
    """The same warehouse, with keys and all, without and with a second, larger organization."""
    first = make_warehouse(server18, server18.migrated_database())
    first.run(_ALPHA)
    first.run(rows("alpha", "other:", 160))
    keys = {role: first.key(role, role=role, **scope) for role, scope in ROLES.items()}
    everything = first.key("everything", role="admin", organization=["*"])
    name = Cluster.name_of(first.settings)
    copy = server18.create_database(template=name)
    second = ApiWarehouse(settings=served_by(server18, server18.settings_for(copy)))
    second.run(rows("beta", "reddit_ads:", 400))
    second.run(_BETA)
    for world in (first, second):
        world.run("vacuum analyze")
    yield Worlds(without=first, within=second, keys=keys, everything=everything)
    server18.drop_database(copy)
    server18.drop_database(name)


class Asking:
    """One app of a world, asked as each role."""

    def __init__(self, world: ApiWarehouse, keys: dict[str, str]) -> None:
        self.app = create_app(world.settings)
        self._client = self.app.test_client(use_cookies=False)
        self._keys = keys

    def answer(self, role: str, path: str, accept: str = "*/*") -> tuple[Any, ...]:
        """All that a caller gets, but for what is of the request and of the time."""
        headers = {
            "Authorization": f"Bearer {self._keys[role]}",
            "X-Request-Id": "the-same",
            "Accept": accept,
        }
        response = self._client.get(f"{BASE}{path}", headers=headers)
        kept = [item for item in response.headers.items() if item[0] not in OF_THE_REQUEST]
        body = response.data
        response.close()
        return response.status_code, sorted(kept), body

    def all_pages(self, role: str, path: str) -> list[tuple[Any, ...]]:
        """To the last page, the tokens included."""
        pages = [self.answer(role, path)]
        while token := re.search(rb'"next_page": ?"([^"]+)"', pages[-1][2]):
            pages.append(self.answer(role, f"{path}&page={token.group(1).decode()}"))
        return pages


@pytest.fixture(scope="module")
def askings(worlds: Worlds) -> tuple[Asking, Asking]:
    """Both worlds, asked with the same keys."""
    return Asking(worlds.without, worlds.keys), Asking(worlds.within, worlds.keys)


@pytest.mark.parametrize("role", ROLES)
def test_answers_are_the_same_to_the_byte(askings: tuple[Asking, Asking], role: str) -> None:
    without, within = askings
    statuses = set()
    for path in PATHS:
        for accept in ("application/json", "text/csv", "application/x-ndjson"):
            expected = without.answer(role, path, accept)
            assert within.answer(role, path, accept) == expected, (path, accept)
            statuses.add(expected[0])
    assert statuses >= {200, 400, 404, 406}


def test_pages_and_their_tokens_are_the_same(askings: tuple[Asking, Asking]) -> None:
    without, within = askings
    pages = without.all_pages("reader", f"/daily-metrics?{WINDOW}&page_size=200")
    assert len(pages) > 15
    assert within.all_pages("reader", f"/daily-metrics?{WINDOW}&page_size=200") == pages


def test_the_two_worlds_do_differ_for_who_sees_both(worlds: Worlds) -> None:
    """Else the tests above could not fail."""
    key = {"ops": worlds.everything}
    for path in ("/daily-metrics", "/metadata/parity", "/metadata/refresh"):
        first, second = (Asking(world, key).answer("ops", path)
                         for world in (worlds.without, worlds.within))  # fmt: skip
        assert first[0] == second[0] == 200
        assert first[2] != second[2], path


def test_runs_and_models_that_the_role_may_not_read_are_not_shown(own: ApiWarehouse) -> None:
    own.run(
        "insert into metadata.refresh_log (job_name, started_at, status, models) values"
        " ('operations', '2026-11-19 12:00+00', 'running', '{operations}'),"
        " ('daily_metrics', '2026-11-19 13:00+00', 'running', '{daily_metrics,operations}')"
    )
    shown = {}
    for role in ("reader", "operator"):
        client = own.client(own.key(role, role=role, organization=["alpha"]))
        runs = json_of(client.get("metadata/refresh"))["runs"]
        shown[role] = [(run["job_name"], *run["models"]) for run in runs]
    newest = [("daily_metrics", "daily_metrics", "operations"), ("operations", "operations")]
    assert shown["operator"][:2] == newest
    assert shown["reader"] == [("daily_metrics", "daily_metrics"), *shown["operator"][2:]]


def test_an_answer_costs_the_same_rows_and_blocks(worlds: Worlds) -> None:
    """The class of time: rows and blocks that PostgreSQL touches, which the clock only blurs.

    Allowed is what the answer bounds: a few rows of small tables, deeper indexes, and a block for
    each of its 500 rows where a larger table is read by its index. The other organization has
    43,000 rows, 9,000 verdicts and 2,000 withheld keys.
    """
    without, within = (cost(world, worlds.keys) for world in (worlds.without, worlds.within))
    dearer = [
        (request, (tuples, blocks, scans), within[request])
        for request, (tuples, blocks, scans) in without.items()
        if within[request][0] > tuples + 20 * REPEATED
        or within[request][1] > 1.3 * blocks + 2 * scans + 500 * REPEATED
    ]
    assert not dearer, "\n" + "\n".join(map(str, dearer))


def cost(world: ApiWarehouse, keys: dict[str, str]) -> dict[tuple[str, str], tuple[int, ...]]:
    """Rows read, blocks touched and scans begun for each request, each asked a few times."""
    found = {}
    for role in ("reader", "agent"):
        for path in PATHS:
            asking = Asking(world, keys)
            asking.answer(role, "/marts")  # The key and the catalogue are known from here on.
            settle(world)
            world.run("select pg_stat_reset()")
            for _ in range(REPEATED):
                asking.answer(role, path)
            settle(world)
            (row,) = world.run(_COST)
            found[(role, path)] = tuple(map(int, row))
    return found


def settle(world: ApiWarehouse) -> None:
    """A backend tells what it did when it ends."""
    deadline = time.monotonic() + 30
    while world.run(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where usename = 'oversight_api' and datname = current_database()"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)
