"""Landing spend rows from CSV against a bare COPY of the same rows into the same table.

Run by `make bench`. Prints medians, their ratio (bound: 2.0) and the peak memory of the loading
process with DuckDB in it (bound: 600 MB), also for a file five times as large.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import duckdb
from psycopg2.extensions import connection as Connection

from runner.landing.load import load_engine
from warehouse import database
from warehouse.catalogue import read_catalogue
from warehouse.settings import Settings, load_settings

ROWS = 1_000_000
RUNS = 5
MAX_RATIO = 2.0
MAX_MEGABYTES = 600
_TABLE = "staging.oversight__spend"


def test_landing_against_a_bare_copy(warehouse: Settings, tmp_path: Path) -> None:
    """Alternating runs, each into the emptied table."""
    connection = database.connect(warehouse, autocommit=True)
    url = str(warehouse.database_url)
    small, large = tmp_path / "small", tmp_path / "large"
    for folder, count in ((small, ROWS), (large, 5 * ROWS)):
        folder.mkdir()
        write_spend(folder / "spend.csv", count)
    timed_land(small, url)
    columns = export(connection, tmp_path / "rows.csv")
    landings, copies, peaks = [], [], []
    for run in range(RUNS):
        for is_landing in (True, False) if run % 2 == 0 else (False, True):
            empty(connection)
            if is_landing:
                seconds, megabytes = timed_land(small, url)
                landings.append(seconds)
                peaks.append(megabytes)
            else:
                copies.append(timed_copy(connection, columns, tmp_path / "rows.csv"))
    empty(connection)
    large_seconds, large_peak = timed_land(large, url)
    connection.close()
    landing, copy = statistics.median(landings), statistics.median(copies)
    print(  # noqa: T201
        f"\nlanding {ROWS:,} rows: median {landing:.2f} s of {rounded(landings)}"
        f"\nbare COPY of them: median {copy:.2f} s of {rounded(copies)}"
        f"\nratio {landing / copy:.2f} (bound {MAX_RATIO})"
        f"\nlanding {5 * ROWS:,} rows: {large_seconds:.2f} s"
        f"\npeak memory {max(peaks):.0f} MB, large file {large_peak:.0f} MB "
        f"(bound {MAX_MEGABYTES})"
    )


def rounded(seconds: list[float]) -> list[float]:
    return [round(value, 2) for value in seconds]


def write_spend(path: Path, rows: int) -> None:
    """Native spend records, as many as asked for."""
    with duckdb.connect(config={"memory_limit": "256MB"}) as connection:
        connection.execute(
            f"""
            copy (
                select 'default' as organization_id, 's' || i as spend_id,
                    strftime(timestamp '2026-01-01' + to_seconds(i % 7776000),
                        '%Y-%m-%dT%H:%M:%SZ') as occurred_at,
                    'p' || (i % 50) as partner_id, 'c' || (i % 500) as campaign_id,
                    printf('%d.%02d', i % 900, i % 100) as spend_amount, i % 97 as clicks,
                    i % 9973 as impressions, 'USD' as currency,
                    '2026-10-01T00:00:00Z' as updated_at
                from range({rows}) as numbers(i)
            ) to '{path}' (format csv, header)
            """
        )


def land(folder: Path) -> None:
    """The measured process: land the folder and print seconds and peak megabytes."""
    settings = load_settings()
    catalogue = read_catalogue(settings.project_dir)
    start = time.perf_counter()
    report = load_engine(settings, catalogue, "oversight", folder)
    seconds = time.perf_counter() - start
    if not report.is_clean or report.batch_id is None:
        raise SystemExit(f"the load failed: {report}")
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps([seconds, int(peak[1]) / 1024 if peak else 0.0]))  # noqa: T201


def timed_land(folder: Path, url: str) -> tuple[float, float]:
    """Land in a process of its own; seconds and megabytes."""
    done = subprocess.run(
        [sys.executable, __file__, str(folder)],
        check=True,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "OVERSIGHT_DATABASE_URL": url,
            "PYTHONPATH": str(Path(__file__).resolve().parents[3]),
        },
    )
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def empty(connection: Connection) -> None:
    """Forget all loads; only a superuser who switches triggers off can."""
    with connection.cursor() as cursor:
        cursor.execute("set session_replication_role = replica")
        cursor.execute(f"truncate {_TABLE}, metadata.landed_files, metadata.batch_tables")
        cursor.execute("set session_replication_role = origin")
        cursor.execute("vacuum")


def timed_copy(connection: Connection, columns: str, path: Path) -> float:
    """A bare COPY into the raw table with its indexes, by a superuser past row-level security."""
    with connection.cursor() as cursor, path.open("rb") as file:
        start = time.perf_counter()
        cursor.copy_expert(f"copy {_TABLE} ({columns}) from stdin (format csv)", file, 1 << 16)
        return time.perf_counter() - start


def export(connection: Connection, path: Path) -> str:
    """Write the landed rows as they stand in the table; gives back their columns."""
    with connection.cursor() as cursor, path.open("wb") as file:
        cursor.execute(
            "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute "
            "where attrelid = %s::regclass and attnum > 0 and attname <> 'row_id'",
            (_TABLE,),
        )
        row = cursor.fetchone()
        assert row is not None
        cursor.copy_expert(f"copy {_TABLE} ({row[0]}) to stdout (format csv)", file)
    return str(row[0])


if __name__ == "__main__":
    land(Path(sys.argv[1]))
