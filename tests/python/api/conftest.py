"""A warehouse that tests only read, and one for each test that changes it."""

from collections.abc import Iterator

import pytest
from api_warehouse import ApiWarehouse, make_warehouse, served_by
from contract import ContractClient
from flask import Flask
from mcp_process import McpServer
from server_process import ServerProcess
from status_data import fill_status

from clusters import Cluster


@pytest.fixture(scope="session", autouse=True)
def _contract() -> None:
    """Every answer that a test here gets is held against the OpenAPI document."""
    Flask.test_client_class = ContractClient


@pytest.fixture(scope="session")
def read_only(server18: Cluster) -> Iterator[ApiWarehouse]:
    """Shared by the tests that change nothing but keys."""
    settings = server18.migrated_database()
    yield make_warehouse(server18, settings)
    server18.drop_database(Cluster.name_of(settings))


@pytest.fixture(scope="session")
def _made(server18: Cluster) -> Iterator[str]:
    """The name of a warehouse to be cloned, which nobody is connected to."""
    settings = server18.migrated_database()
    make_warehouse(server18, settings)
    yield Cluster.name_of(settings)
    server18.drop_database(Cluster.name_of(settings))


@pytest.fixture
def own(server18: Cluster, _made: str) -> Iterator[ApiWarehouse]:
    """A test's own."""
    name = server18.create_database(template=_made)
    yield ApiWarehouse(settings=served_by(server18, server18.settings_for(name)))
    server18.drop_database(name)


@pytest.fixture(scope="session")
def running_api(
    read_only: ApiWarehouse, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """`oversight serve` over the warehouse that nobody changes."""
    server = ServerProcess(read_only, tmp_path_factory.mktemp("api") / "log")
    server.wait_until_ready()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def running_mcp(
    running_api: ServerProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[McpServer]:
    """`oversight mcp --http` before it."""
    server = McpServer(running_api.port, tmp_path_factory.mktemp("mcp") / "log")
    server.wait_until_ready()
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def filled(server18: Cluster) -> Iterator[ApiWarehouse]:
    """A warehouse with something in every section of the status page; tests add keys alone."""
    settings = server18.migrated_database()
    warehouse = make_warehouse(server18, settings)
    fill_status(warehouse)
    yield warehouse
    server18.drop_database(Cluster.name_of(settings))
