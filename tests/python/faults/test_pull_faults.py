"""An engine that fails in each way, and pulls killed at each point: nothing lost, nothing double.

After each, what the warehouse holds is what a clean load of the same engine gives. The engine
counts the faults that it did, and a killed process shows how it died.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compared import ComparedWarehouse
from engines import QUICK, TABLES, TOKEN, ServedEngine, newest, query, served, specification

from clusters import PROJECT_DIR, Cluster
from runner.landing.load import load_engine
from runner.pull.errors import PullError
from runner.pull.pull import pull
from runner.simulation.simulate import simulate
from warehouse.catalogue import read_catalogue
from warehouse.database import admin_dsn
from warehouse.declared import Catalogue
from warehouse.settings import Settings

BATCHES = "select batch_id, status from metadata.batches order by 1"
WATERMARKS = "select source_table, through, batch_id from metadata.pull_watermarks order by 1"
SLOW_SECONDS = 1.5


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """The project's, with smaller pages and less patience, so that there is more to fail."""
    whole = read_catalogue(PROJECT_DIR)
    sources = []
    for table in whole.sources:
        endpoint = table.endpoint
        if endpoint is not None:
            assert endpoint.paging is not None
            paging = replace(endpoint.paging, size=150)
            endpoint = replace(
                endpoint, paging=paging, timeout_seconds=1, requests_per_second=1000.0
            )
        sources.append(replace(table, endpoint=endpoint))
    return replace(whole, sources=tuple(sources))


@pytest.fixture(scope="module")
def engine() -> Iterator[ServedEngine]:
    with served(specification(), slow_seconds=SLOW_SECONDS) as found:
        yield found


@pytest.fixture(autouse=True)
def _faultless(engine: ServedEngine) -> None:
    engine.switch()


@pytest.fixture(scope="module")
def extracts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the same engine writes into files."""
    folder = tmp_path_factory.mktemp("extracts")
    simulate(specification(path=folder / "all"))
    return folder / "all" / "oversight"


@pytest.fixture(scope="module")
def clean(server18: Cluster, catalogue: Catalogue, extracts: Path) -> dict[str, Any]:
    """What a clean load of it leaves."""
    settings = server18.migrated_database()
    load_engine(settings, catalogue, "oversight", extracts)
    found = newest(settings)
    server18.drop_database(Cluster.name_of(settings))
    assert all(found[table] for table in TABLES)
    return found


@pytest.fixture
def home(warehouse: Settings, tmp_path: Path) -> Settings:
    return replace(warehouse, home=tmp_path / "home")


def pulled(home: Settings, catalogue: Catalogue, engine: ServedEngine) -> None:
    report = pull(home, catalogue, "oversight", environ=engine.environ, patience=QUICK)
    assert report.is_clean, report


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("500s", 0.4),
        ("429s", [2, 4]),
        ("slow", [2, 4]),
        ("cut", 0.4),
        ("repeat", 0.5),
    ],
)
def test_a_fault_that_passes_changes_nothing(
    home: Settings,
    catalogue: Catalogue,
    engine: ServedEngine,
    clean: dict[str, Any],
    kind: str,
    how: Any,
) -> None:
    engine.switch(**{f"_{kind}": how})
    pulled(home, catalogue, engine)
    done = engine.done()
    assert done[kind] >= 2, done
    assert sum(done.values()) == done[kind]
    assert newest(home) == clean
    assert query(home, BATCHES) == [(1, "landed")]


@pytest.mark.parametrize("kind", ["500s", "cut", "repeat", "slow"])
def test_a_fault_that_stays_is_an_error_and_changes_nothing(
    home: Settings, catalogue: Catalogue, engine: ServedEngine, kind: str
) -> None:
    engine.switch(**{f"_{kind}": [*range(6, 60)]})
    with pytest.raises(PullError) as caught:
        pulled(home, catalogue, engine)
    assert engine.done()[kind] >= QUICK.attempts
    text = str(caught.value)
    assert "oversight.events, page " in text
    assert f"{QUICK.attempts} times; nothing landed" in text
    assert TOKEN not in text
    assert query(home, BATCHES) == []
    assert query(home, WATERMARKS) == []
    assert list((home.home / "pulls").iterdir()) == []


def test_with_all_faults_at_once_the_marts_are_those_of_a_clean_load(
    built: ComparedWarehouse, catalogue: Catalogue, extracts: Path, tmp_path: Path
) -> None:
    # The moment at which `simulate` says that its control totals are true.
    with served(specification(), slow_seconds=SLOW_SECONDS) as engine:
        engine.turn_clock(engine.engine.moment(1))
        engine.switch(_500s=0.2, _429s=[9], slow=[12], cut=0.3, repeat=0.3)
        built.renew()
        pulled(replace(built.settings, home=tmp_path), catalogue, engine)
        done = engine.done()
        assert min(done.values()) >= 1, done
    built.refresh_models()
    pulled_contents = built.contents()
    built.renew()
    load_engine(built.settings, built.catalogue, "oversight", extracts)
    built.refresh_models()
    assert pulled_contents == built.contents()
    assert pulled_contents["daily_metrics"]


def test_a_full_disk_is_an_error_and_changes_nothing(
    home: Settings, catalogue: Catalogue, engine: ServedEngine, clean: dict[str, Any]
) -> None:
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))
    try:
        with pytest.raises(PullError, match="File too large; free some space"):
            pulled(home, catalogue, engine)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    assert query(home, BATCHES) == []
    assert list((home.home / "pulls").iterdir()) == []
    pulled(home, catalogue, engine)
    assert newest(home) == clean


class TestKilled:
    @pytest.fixture
    def environ(self, home: Settings, catalogue: Catalogue, engine: ServedEngine) -> dict[str, str]:
        content = catalogue.to_json().replace("'", "''")
        query(
            home,
            "insert into metadata.catalogue (content_hash, content) "
            f"values ('{catalogue.content_hash}', '{content}')",
        )
        return {
            **os.environ,
            **engine.environ,
            "PYTHONPATH": str(PROJECT_DIR),
            "OVERSIGHT_DATABASE_URL": admin_dsn(home),
            "OVERSIGHT_HOME": str(home.home),
        }

    def test_in_the_middle_of_a_page(
        self,
        home: Settings,
        catalogue: Catalogue,
        engine: ServedEngine,
        clean: dict[str, Any],
        environ: dict[str, str],
    ) -> None:
        engine.switch(slow=[*range(6, 60)])
        process = subprocess.Popen(
            [sys.executable, "-m", "runner.cli", "pull", "oversight"], env=environ, cwd=PROJECT_DIR
        )
        _wait_until(lambda: engine.requests() >= 6)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert any(path.is_file() for path in (home.home / "pulls").rglob("*.jsonl"))
        assert query(home, BATCHES) == []
        assert query(home, WATERMARKS) == []

        engine.switch()
        pulled(home, catalogue, engine)
        assert newest(home) == clean
        assert list((home.home / "pulls").iterdir()) == []

    @pytest.mark.parametrize("point", ["before the commit", "after the commit"])
    def test_at_the_landing(
        self,
        home: Settings,
        catalogue: Catalogue,
        engine: ServedEngine,
        clean: dict[str, Any],
        environ: dict[str, str],
        point: str,
    ) -> None:
        name = "_Pull._move" if point == "before the commit" else "load_engine"
        died = subprocess.run(
            [sys.executable, "-c", KILLED_AFTER.format(name=name)],
            env=environ,
            cwd=PROJECT_DIR,
            check=False,
        )
        assert died.returncode == -signal.SIGKILL
        _wait_until(lambda: query(home, STILL_OPEN) == [(0,)])
        landed = [(1, "landed")] if point == "after the commit" else []
        assert query(home, BATCHES) == landed
        marks = query(home, WATERMARKS)
        assert bool(marks) == bool(landed)

        again = pull(home, catalogue, "oversight", environ=engine.environ, patience=QUICK)
        assert newest(home) == clean
        accepted = sum(count.accepted for count in again.files)
        assert (accepted == 0) == bool(landed)
        versions = query(home, "select count(*), count(distinct record_key) from "
                         "staging.oversight__events")  # fmt: skip
        assert versions[0][0] == versions[0][1]
        if landed:
            assert [row[:2] for row in query(home, WATERMARKS)] == [row[:2] for row in marks]


KILLED_AFTER = """
import os, signal
from runner.pull import pull as module
from runner.cli import main

holder, _, name = "module.{name}".rpartition(".")
holder = eval(holder)
whole = getattr(holder, name)

def killed(*arguments, **options):
    whole(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(holder, name, killed)
main(["pull", "oversight"])
"""
STILL_OPEN = """
    select count(*) from pg_stat_activity
    where datname = current_database() and application_name like 'oversight%' and pid
        <> pg_backend_pid() and application_name <> 'oversight'
"""


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
