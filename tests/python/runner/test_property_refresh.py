"""After any loads and refreshes the incremental tables equal a full rebuild, row for row.

Eight fixed examples by default; HYPOTHESIS_PROFILE=soak takes hundreds of random ones.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from histories import FIRST_DAY, MODELS, Step, Story, Version, stories
from hypothesis import HealthCheck, given, settings
from loads import Arrivals, Loading, write_extracts
from psycopg2.extensions import connection as Connection
from warm_dbt import WarmDbt

from clusters import Cluster
from warehouse import dbt, migrate
from warehouse.catalogue import read_catalogue
from warehouse.database import connect
from warehouse.raw_tables import ensure_raw_tables
from warehouse.settings import Settings

DATABASE = "property"
BUILT = "property_built"
TABLES = {
    **{f"curated.{model}": "*" for model in MODELS[:5]},
    **{f"reporting.{model}": "*" for model in MODELS[5:]},
    "metadata.parity_verdicts": (
        "organization_id, mart, partner_id, period, metric, mart_value, control_value,"
        " difference, tolerance, verdict"
    ),
}
_PATIENT = settings(deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("quick", _PATIENT, max_examples=8, derandomize=True, database=None)
settings.register_profile("soak", _PATIENT, max_examples=400)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

Rows = dict[str, list[tuple[Any, ...]]]


class Bench:
    """A warehouse that is made anew in a moment, and dbt that starts in a moment."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.settings: Settings = cluster.settings_for(DATABASE)
        cluster.run(f"create database {DATABASE}")
        migrate.migrate(self.settings)
        self.catalogue = read_catalogue(self.settings.project_dir)
        self._folder = tempfile.TemporaryDirectory(prefix="ov-property-")
        self._numbers = itertools.count(1)
        connection = connect(self.settings)
        ensure_raw_tables(connection, self.catalogue.sources)
        connection.close()
        self.environment = dbt.environment(self.settings)
        self.dbt = WarmDbt(self.settings.project_dir, dbt.target(self.settings), self.environment)
        self.run("build", "--exclude-resource-type", "test", "unit_test")
        cluster.run(f"alter database {DATABASE} rename to {BUILT}")

    def renew(self) -> None:
        """An empty warehouse with every table built, under the name that dbt was parsed for."""
        self.cluster.drop_database(DATABASE)
        self.cluster.run(f"create database {DATABASE} template {BUILT}")
        self.cluster.run(
            f"grant create, temporary, connect on database {DATABASE}"
            " to oversight_owner, oversight_raw, oversight_loader"
        )

    def folder(self, arrivals: Arrivals) -> Path:
        """A new folder of extracts."""
        folder = Path(self._folder.name) / str(next(self._numbers))
        folder.mkdir()
        write_extracts(folder, self.catalogue, arrivals)
        return folder

    def close(self) -> None:
        self.dbt.close()
        self._folder.cleanup()
        for name in (DATABASE, BUILT):
            self.cluster.drop_database(name)

    def run(self, *arguments: str) -> None:
        outcome = self.dbt.run(arguments, self.environment)
        assert outcome.status == 0, outcome.output

    def refresh(self, models: tuple[str, ...] = MODELS, *, is_full: bool = False) -> None:
        self.run(*command(models, is_full=is_full))

    def rows(self) -> Rows:
        connection = connect(self.settings)
        found: Rows = {}
        with connection, connection.cursor() as cursor:
            for table, columns in TABLES.items():
                cursor.execute(f"select {columns} from {table}")
                found[table] = sorted(cursor.fetchall(), key=repr)
        connection.close()
        return found

    def value(self, query: str) -> Any:
        connection = connect(self.settings)
        with connection, connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone()
        connection.close()
        return row and row[0]


def command(models: tuple[str, ...], *, is_full: bool = False) -> list[str]:
    return ["run", "--select", *models, *(["--full-refresh"] if is_full else [])]


@pytest.fixture(scope="module")
def bench(server18: Cluster) -> Iterator[Bench]:
    made = Bench(server18)
    yield made
    made.close()


def take(bench: Bench, step: Step, arrivals: Arrivals) -> bool:
    """Do one step; True when the refresh really stood at its gate while the batch was committed."""
    folder = bench.folder(arrivals)
    if not step.models or step.gate is None:
        Loading(bench.settings, bench.catalogue, folder).commit()
        if step.models:
            bench.refresh(step.models, is_full=step.is_full)
        return False
    return load_at_gate(bench, folder, step)


def load_at_gate(bench: Bench, folder: Path, step: Step) -> bool:
    assert step.gate is not None
    gate = connect(bench.settings)
    watch = connect(bench.settings, autocommit=True)
    loading = None
    try:
        with gate.cursor() as cursor:
            cursor.execute(step.gate)
        if step.is_early:
            loading = Loading(bench.settings, bench.catalogue, folder)
            loading.wait_until_held()
        bench.dbt.start(command(step.models, is_full=step.is_full), bench.environment)
        is_waiting = wait_for_gate(bench, watch)
        loading = loading or Loading(bench.settings, bench.catalogue, folder)
        loading.commit()
        gate.rollback()
        outcome = bench.dbt.finish()
        assert outcome.status == 0, outcome.output
        return is_waiting
    finally:
        gate.close()
        watch.close()


def wait_for_gate(bench: Bench, watch: Connection) -> bool:
    """Wait until dbt waits for a lock, or has ended without meeting one."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if bench.dbt.is_done():
            return False
        with watch.cursor() as cursor:
            cursor.execute("select count(*) from pg_locks where not granted")
            (count,) = cursor.fetchone() or (0,)
        if count:
            return True
        time.sleep(0.01)
    raise AssertionError("the refresh neither ended nor met the gate")


def play(bench: Bench, story: Story) -> tuple[Arrivals, int]:
    """Take all steps, then load what is left; gives back what arrived, in order, and gates met."""
    bench.renew()
    arrived: Arrivals = []
    waiting = [(place, story.history[place]) for place in story.order]
    met = 0
    for step in story.steps:
        batch, waiting = waiting[: step.arrivals], waiting[step.arrivals :]
        met += take(bench, step, batch)
        arrived += batch
    take(bench, Step(arrivals=len(waiting)), waiting)
    return arrived + waiting, met


@given(story=stories())
def test_any_loads_and_refreshes_equal_one_load_and_a_full_refresh(
    bench: Bench, story: Story
) -> None:
    arrived, _ = play(bench, story)
    bench.refresh()
    incremental = bench.rows()
    bench.refresh(is_full=True)
    assert incremental == bench.rows(), "differs from a full refresh of the same warehouse"

    bench.renew()
    take(bench, Step(arrivals=len(arrived)), arrived)
    bench.refresh(is_full=True)
    assert incremental == bench.rows(), "differs from one load of everything"


def spend(number: str, partner: str = "p1", day: int = 0) -> Version:
    values = {
        "organization_id": "left",
        "spend_id": number,
        "occurred_at": f"{FIRST_DAY + timedelta(days=day)}T00:00:00Z",
        "partner_id": partner,
        "spend_amount": "1.00",
        "currency": "USD",
    }
    return Version(engine="oversight", table="spend", values=tuple(values.items()))


@pytest.mark.parametrize(
    ("gate", "is_early"),
    [
        ("lock table curated.fact_spend in share mode", True),
        ("lock table reporting.daily_metrics in share mode", False),
        ("lock table metadata.applied_batches in share mode", True),
    ],
)
def test_what_commits_while_a_refresh_runs_waits_whole_for_the_next(
    bench: Bench, gate: str, is_early: bool
) -> None:
    bench.renew()
    take(bench, Step(arrivals=1, models=MODELS), [(0, spend("s1")), (1, spend("s2"))])
    moved: Arrivals = [(2, spend("s1", "p2", day=5)), (3, spend("s3"))]
    # Something to do for the refresh that is stopped, so that it comes to its gate.
    take(bench, Step(arrivals=1), [(4, spend("s4"))])
    assert take(bench, Step(arrivals=2, models=MODELS, gate=gate, is_early=is_early), moved), (
        "the refresh never stood at its gate"
    )
    bench.refresh()
    incremental = bench.rows()
    assert len(incremental["curated.fact_spend"]) == 4
    bench.refresh(is_full=True)
    assert incremental == bench.rows()


def test_keys_are_kept_until_every_mart_took_them_and_no_longer(bench: Bench) -> None:
    bench.renew()
    count = "select count(*) from metadata.touched_keys"
    take(bench, Step(arrivals=1, models=MODELS), [(0, spend("s1"))])
    take(bench, Step(arrivals=1, models=MODELS[:6]), [(1, spend("s2"))])
    assert bench.value(count) > 0
    bench.refresh(MODELS[6:])
    # Two that take the same keys at one time leave them to the next refresh.
    bench.refresh()
    assert bench.value(count) == 0
