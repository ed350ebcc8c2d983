"""What a refresh costs beside its SQL: by warm dbt, by a process of its own, by dbt's own command.

Run by `make bench`. Each refresh takes a landed batch of 200 records into the facts, the dimensions
and the daily mart; the runner's also writes its row, its counts and its end. SQL's own time is what
PostgreSQL says its sessions worked in that database, dbt's look-ups included; two sessions that
work at one time count twice. Bound for the runner: 0.6 s on two cores.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from compared import ComparedWarehouse
from histories import Item, Version
from loads import Loading

from clusters import Cluster
from runner.runs.warm_dbt import Dbt
from runner.schedule.work import Work
from warehouse import dbt
from warehouse.catalogue import deploy
from warehouse.database import admin_dsn

RUNS = 5
RECORDS = 200
MAX_SECONDS = 0.6
_MART = "daily_metrics"
_SELECTION = [f"{name},config.materialized:incremental" for name in (f"+{_MART}", "dim_*")]
_LOOK_SECONDS = 0.05


@dataclass
class Figures:
    """Seconds on the clock and in PostgreSQL, by run."""

    walls: list[float] = field(default_factory=list)
    sql: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        beside = [wall - sql for wall, sql in zip(self.walls, self.sql, strict=True)]
        return (
            f"{statistics.median(self.walls):6.2f} s, of it SQL {statistics.median(self.sql):.2f} s"
            f" and {statistics.median(beside):.2f} s beside it (least {min(beside):.2f} s)"
        )


@pytest.fixture
def bench(server18: Cluster) -> Iterator[ComparedWarehouse]:
    made = ComparedWarehouse(server18, "bench")
    made.renew()
    deploy(made.settings)
    yield made
    made.close()


def test_a_refresh_beside_its_sql(bench: ComparedWarehouse) -> None:
    """The ways take turns, so that a busy moment is shared by all."""
    places = itertools.count()
    with Dbt(bench.settings, warm=True) as warm, Dbt(bench.settings, warm=False) as plain:
        ways: dict[str, Callable[[], object]] = {
            "the runner": lambda: Work(bench.settings, warm).refresh(
                {_MART: None}, [_MART], epoch=0
            ),
            "warm dbt alone": lambda: run(warm),
            "a process of its own": lambda: run(plain),
            "oversight refresh": lambda: command("runner.cli", "refresh", _MART, bench=bench),
            "dbt run": lambda: command(
                *("dbt.cli.main", "run", "--select", *_SELECTION),
                *("--target", dbt.target(bench.settings)),
                bench=bench,
            ),
        }
        figures = {name: Figures() for name in ways}
        for way in ways.values():
            way()
        time.sleep(3)
        for _ in range(RUNS):
            for name, way in ways.items():
                land(bench, next(places))
                before, started = worked(bench), time.perf_counter()
                way()
                figures[name].walls.append(time.perf_counter() - started)
                figures[name].sql.append(worked(bench) - before)
    lines = [f"{RUNS} refreshes each of {_MART} and its facts, {RECORDS} new records; medians:"]
    lines += [f"  {name:22}{found}" for name, found in figures.items()]
    lines += [f"  bound for a refresh by the runner: {MAX_SECONDS} s beside the SQL"]
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert bench.value("select count(*) from curated.fact_spend") > 0


def run(made: Dbt) -> None:
    result = made.start(["run", "--select", *_SELECTION], run_id=None).wait()
    assert result is not None
    assert result.success, result.output


def command(*arguments: str, bench: ComparedWarehouse) -> None:
    environment = dbt.environment(bench.settings)
    environment["OVERSIGHT_DATABASE_URL"] = admin_dsn(bench.settings)
    subprocess.run(
        [sys.executable, "-m", *arguments],
        env=environment | {"PATH": os.environ["PATH"]},
        cwd=bench.settings.project_dir,
        check=True,
        capture_output=True,
    )


def land(bench: ComparedWarehouse, place: int) -> None:
    """New and changed spend of some partners on some days."""
    records: list[Item] = [
        Version(
            engine="oversight",
            table="spend",
            values=(
                ("organization_id", "left"),
                ("spend_id", f"s{number}"),
                ("occurred_at", f"2027-01-{(number + place) % 28 + 1:02}T00:00:00Z"),
                ("partner_id", f"p{number % 3}"),
                ("campaign_id", f"c{number % 2}"),
                ("spend_amount", f"{number + place}.00"),
                ("currency", "USD"),
            ),
        )
        for number in range(RECORDS)
    ]
    arrivals = [(place * RECORDS + index, record) for index, record in enumerate(records)]
    Loading(bench.settings, bench.catalogue, bench.folder(arrivals)).commit()


def worked(bench: ComparedWarehouse) -> float:
    """Seconds that sessions worked in this database, once those that ended have said so."""
    found = -1.0
    while True:
        connection = bench.cluster.connect("postgres")
        with connection.cursor() as cursor:
            cursor.execute(
                "select active_time / 1000 from pg_stat_database where datname = %s", (bench.name,)
            )
            ((now,),) = cursor.fetchall()
        connection.close()
        if now == found:
            return float(now)
        found = now
        time.sleep(_LOOK_SECONDS)
