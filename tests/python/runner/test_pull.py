"""Pulling from a reporting engine over a real socket: what comes, since when, and how asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from engines import QUICK, ServedEngine, newest, query, served, specification

from clusters import PROJECT_DIR, Cluster
from runner.landing.ledger import LoadReport
from runner.landing.load import load_engine
from runner.pull.pull import pull
from runner.simulation.simulate import simulate
from warehouse.catalogue import read_catalogue
from warehouse.declared import Catalogue
from warehouse.settings import Settings


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue(PROJECT_DIR)


@pytest.fixture(scope="module")
def engine() -> Iterator[ServedEngine]:
    with served(specification()) as found:
        yield found


@pytest.fixture
def home(warehouse: Settings, tmp_path: Path) -> Settings:
    return replace(warehouse, home=tmp_path)


def pulled(settings: Settings, catalogue: Catalogue, engine: ServedEngine) -> LoadReport:
    return pull(settings, catalogue, "oversight", environ=engine.environ, patience=QUICK)


def test_a_pull_brings_what_a_load_of_the_same_engine_does(
    home: Settings, server18: Cluster, catalogue: Catalogue, engine: ServedEngine, tmp_path: Path
) -> None:
    report = pulled(home, catalogue, engine)

    simulate(specification(path=tmp_path / "extracts"))
    loaded = server18.migrated_database()
    load_engine(loaded, catalogue, "oversight", tmp_path / "extracts" / "oversight")
    assert newest(home) == newest(loaded)
    assert sum(count.read for count in report.files) > 1500
    assert query(home, "select path, status from metadata.batches") == [
        (engine.server.url, "landed")
    ]
    server18.drop_database(Cluster.name_of(loaded))
