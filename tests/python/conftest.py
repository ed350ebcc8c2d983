"""Fixtures that every test shares: own servers, fresh warehouses, an environment of their own.

- `server18`: the embedded PostgreSQL 18, one for the session.
- `server`: that one and, where its programs are installed, a PostgreSQL 15.
- `warehouse`: Settings of a fresh migrated database on 18; `any_warehouse`: on both.
- `built`: a warehouse with every table built on 18, emptied in a moment by `renew`.
- `own_server`: `own_server(settings)` fails unless the tests started that server.
"""

import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

import pytest
import structlog
from compared import ComparedWarehouse

from clusters import Cluster, assert_own_server, start_cluster, stop_cluster
from warehouse.settings import Settings


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test may meet a person's warehouse through a variable or the checkout's home folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("OVERSIGHT_", "DBT_", "PG")):
                patch.delenv(name)
        patch.setenv("OVERSIGHT_HOME", str(tmp_path_factory.mktemp("nobodys-home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _end_in_order() -> Iterator[None]:
    """A terminated session stops its servers as an interrupted one does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def _own_logging() -> None:
    """A command that an earlier test called in this process must not say where logs go."""
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def _clusters() -> Iterator[Callable[[str], Cluster | None]]:
    """Starts each version at its first use and stops all at the end."""
    started: dict[str, Cluster | None] = {}

    def get(version: str) -> Cluster | None:
        if version not in started:
            started[version] = start_cluster(version)
        return started[version]

    yield get
    for cluster in started.values():
        if cluster is not None:
            stop_cluster(cluster)


def _required(cluster: Cluster | None) -> Cluster:
    if cluster is None:
        pytest.skip("PostgreSQL 15 is not installed")
    return cluster


@pytest.fixture(scope="session")
def server18(_clusters: Callable[[str], Cluster | None]) -> Cluster:
    """The embedded server, PostgreSQL 18."""
    return _required(_clusters("18"))


@pytest.fixture(scope="session", params=["18", "15"])
def server(request: pytest.FixtureRequest, _clusters: Callable[[str], Cluster | None]) -> Cluster:
    """The embedded server, then the oldest PostgreSQL that Oversight supports."""
    return _required(_clusters(str(request.param)))


@pytest.fixture
def warehouse(server18: Cluster) -> Iterator[Settings]:
    """A fresh migrated database of its own on PostgreSQL 18."""
    yield from _fresh(server18)


@pytest.fixture
def any_warehouse(server: Cluster) -> Iterator[Settings]:
    """A fresh migrated database of its own, on 18 and on 15."""
    yield from _fresh(server)


def _fresh(cluster: Cluster) -> Iterator[Settings]:
    settings = cluster.migrated_database()
    assert_own_server(settings)
    yield settings
    cluster.drop_database(Cluster.name_of(settings))


@pytest.fixture
def own_server() -> Callable[[Settings], None]:
    """Fails unless the tests themselves started the server that the settings reach."""
    return assert_own_server


@pytest.fixture(scope="session")
def built(server18: Cluster) -> Iterator[ComparedWarehouse]:
    """The warehouse that is made anew in a moment; call `renew` first."""
    made = ComparedWarehouse(server18, "built")
    yield made
    made.close()
