"""Who is compared: the API in three states, PostgreSQL by pgbench, and two programs of others."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from api_warehouse import ApiWarehouse
from bench.data import FIRST_DAY, FIRST_PARTNER, ORGANIZATION, Question
from bench.load import Asked, Figure, run_pgbench, run_wrk
from server_process import free_port

from clusters import PROJECT_DIR

PEERS_PYTHON = PROJECT_DIR / ".venv-bench" / "bin" / "python"
START_SECONDS = 30
Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """Someone who answers the question."""

    name: str
    measure: Callable[[int], Figure]
    answer: Callable[[Question], Rows]
    largest: float | None = None
    """Bytes that an answer may have at most, to tell a 304."""


def by_wrk(
    name: str,
    address: str,
    folder: Path,
    asked: Sequence[Asked],
    of: Callable[[Question], Asked],
    *,
    largest: float | None = None,
) -> Contestant:
    """A contestant that speaks HTTP; each round starts at another of its requests."""
    path = folder / f"{name.replace(' ', '-')}.requests"
    path.write_text("".join(f"{item.line}\n" for item in asked))
    return Contestant(
        name=name,
        measure=lambda seconds: run_wrk(
            address, path, seconds=seconds, start=random.randrange(len(asked))
        ),
        answer=lambda question: rows_of(get(address, of(question))),
        largest=largest,
    )


def get(address: str, asked: Asked) -> bytes:
    """The body of an answer that must be 200."""
    request = urllib.request.Request(address + asked.path, headers=dict(asked.headers))
    with urllib.request.urlopen(request, timeout=10) as response:
        body: bytes = response.read()
    return body


def rows_of(body: bytes) -> Rows:
    """The rows of an answer, with all digits."""
    found = json.loads(body, parse_float=Decimal, parse_int=Decimal)
    rows = found["data"] if isinstance(found, dict) else found
    return [{str(name): value for name, value in row.items()} for row in rows]


def ours(key: str, question: Question) -> Asked:
    """The question to the API."""
    return Asked(
        f"/api/reporting/v1/daily-metrics?from={question.first}&to={question.last}"
        f"&partner_id={question.partner_id}",
        (("Authorization", f"Bearer {key}"),),
    )


def tag_of(address: str, asked: Asked) -> str | None:
    """The ETag of an answer."""
    request = urllib.request.Request(address + asked.path, headers=dict(asked.headers))
    with urllib.request.urlopen(request, timeout=10) as response:
        tag: str | None = response.headers["ETag"]
    return tag


def pgbench(name: str, warehouse: ApiWarehouse, programs: Path, folder: Path, script: str,
            *, partners: int, days: int) -> Contestant:  # fmt: skip
    """A prepared statement by pgbench, as the reader role and with the scope of the caller.

    `script` has :partner and :day in place of the question.
    """
    path = folder / f"{name.replace(' ', '-')}.sql"
    path.write_text(
        f"\\set partner random({FIRST_PARTNER}, {FIRST_PARTNER + partners - 1})\n"
        f"\\set day random(0, {days - 1})\n{' '.join(script.split())};\n"
    )
    log = folder / f"{name.replace(' ', '-')}.log"
    command = [
        "env",
        "PGOPTIONS=-c role=oversight_reader -c default_transaction_read_only=on"
        f" -c oversight.scope_organization={{{ORGANIZATION}}} -c oversight.scope_partner={{*}}",
        str(programs / "pgbench"), f"--file={path}", str(warehouse.settings.api_database_url),
    ]  # fmt: skip

    def answer(question: Question) -> Rows:
        text = script.replace(":partner", question.partner_id)
        ((found, *_),) = warehouse.run(
            "set role oversight_reader;"
            f" set oversight.scope_organization = '{{{ORGANIZATION}}}';"
            " set oversight.scope_partner = '{*}';"
            + text.replace(":day", str((question.first - FIRST_DAY).days)).replace("%", "%%")
        )
        return rows_of(f"[{found}]".encode())

    return Contestant(
        name=name, measure=lambda seconds: run_pgbench(command, log, seconds=seconds), answer=answer
    )


def as_script(statement: str, question: Question) -> str:
    """A statement for one question as a script for pgbench, its values as parameters."""
    start = f"date '{FIRST_DAY}'"
    days = (question.last - question.first).days

    def quoted(day: date) -> str:
        return f"'{day}'::date"

    for literal, parameter in (
        (quoted(question.first), f"({start} + cast(:day as integer))"),
        (quoted(question.last), f"({start} + cast(:day as integer) + {days})"),
        (f"'{question.partner_id}'", "cast(cast(:partner as integer) as text)"),
    ):
        assert literal in statement, f"{literal} in {statement}"
        statement = statement.replace(literal, parameter)
    # pgbench takes :MI for a variable, in quotes too.
    return statement.replace("HH24:MI:SS", 'HH24":"MI":"SS')


@contextmanager
def peer(module: str, folder: Path, **environment: str) -> Iterator[str]:
    """A program of others under uvicorn, two workers; gives its address.

    Each has a pool or threads of four, so that eight connections are served at once.
    """
    port = free_port()
    options = ["--factory"] if module.endswith(":make") else []
    log = folder / f"{module.split(':')[0]}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [
                str(PEERS_PYTHON), "-m", "uvicorn", module, *options, "--workers", "2",
                "--port", str(port), "--no-access-log", "--log-level", "warning",
                "--app-dir", str(Path(__file__).parent),
            ],
            env=os.environ | environment, stdout=errors, stderr=errors,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _listens(f"http://127.0.0.1:{port}"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _listens(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
