"""schemathesis with every check, authenticated and stateful, for ten minutes: it finds nothing."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_warehouse import ApiWarehouse, make_warehouse
from fuzzing import fuzz

from clusters import Cluster

SECONDS = 600
CASES = 10_000


@pytest.fixture
def warehouse(server18: Cluster) -> Iterator[ApiWarehouse]:
    """A small warehouse of the run's own."""
    settings = server18.migrated_database()
    yield make_warehouse(server18, settings)
    server18.drop_database(Cluster.name_of(settings))


def test_ten_thousand_cases_find_nothing(warehouse: ApiWarehouse, tmp_path: Path) -> None:
    done = fuzz(warehouse, tmp_path, seconds=SECONDS)
    sys.stdout.write(done.report)
    assert done.status == 0
    assert done.cases >= CASES
