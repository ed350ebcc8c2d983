"""A warehouse that tests only read, and one for each test that changes it."""

from collections.abc import Iterator

import pytest
from api_warehouse import ApiWarehouse, make_warehouse

from clusters import Cluster
from warehouse.settings import Settings


@pytest.fixture(scope="session")
def read_only(server18: Cluster) -> Iterator[ApiWarehouse]:
    """Shared by the tests that change nothing but keys."""
    settings = server18.migrated_database()
    yield make_warehouse(server18, settings)
    server18.drop_database(Cluster.name_of(settings))


@pytest.fixture
def own(server18: Cluster, warehouse: Settings) -> ApiWarehouse:
    """A test's own."""
    return make_warehouse(server18, warehouse)
