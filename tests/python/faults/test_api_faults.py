"""The API while PostgreSQL restarts, dies, stands still or is cut off: never wrong, soon back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from api_traffic import CALM, Answer, Traffic, tell
from api_warehouse import ApiWarehouse, make_warehouse
from known_answers import until
from server_process import ServerProcess

from clusters import Cluster, memory_disk, start_cluster, stop_cluster
from warehouse import database, server, server_user

FROZEN_SECONDS = float(os.environ.get("OVERSIGHT_TEST_FROZEN_SECONDS", "8"))
RACE_SECONDS = float(os.environ.get("OVERSIGHT_TEST_RACE_SECONDS", "4"))
LONGEST_SECONDS = 11.0
"""No request waits longer than a statement may take, and a second."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server that may be killed and keeps what was committed."""
    made = start_cluster("18", memory_disk())
    assert made is not None
    made.run("alter system set synchronous_commit = on")
    made.run("select pg_reload_conf()")
    yield made
    stop_cluster(made)


@pytest.fixture(scope="module")
def warehouse(cluster: Cluster) -> ApiWarehouse:
    """Marts of two organizations on it."""
    return make_warehouse(cluster, cluster.migrated_database())


@pytest.fixture(scope="module")
def served(
    warehouse: ApiWarehouse, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """`oversight serve` with two workers."""
    process = ServerProcess(warehouse, tmp_path_factory.mktemp("served") / "log")
    try:
        process.wait_until_ready()
        yield process
    finally:
        if process.process.poll() is None:
            process.stop()


@pytest.fixture
def traffic(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    warehouse: ApiWarehouse,
    served: ServerProcess,
) -> Traffic:
    """Readers with keys of their own."""
    server.start(cluster.settings, programs=cluster.programs)
    keys = {
        name: warehouse.key(f"{request.node.name} {name}", organization=[name])
        for name in ("alpha", "beta")
    }
    return Traffic(served, warehouse, keys)


def test_no_reader_sees_an_old_answer_while_refreshes_race(traffic: Traffic) -> None:
    with traffic.running(refresh_seconds=0.02):
        time.sleep(RACE_SECONDS)
    assert {answer.status for answer in traffic.answers} == {200}
    known = sum(answer.is_known for answer in traffic.answers)
    tell(f"{len(traffic.answers)} answers, {known} of them from memory")
    assert 0 < known < len(traffic.answers)


def test_postgresql_is_restarted(traffic: Traffic, cluster: Cluster) -> None:
    before = _started_at(traffic.warehouse)
    with traffic.running():
        server.stop(cluster.settings, programs=cluster.programs)
        traffic.until(_are_stale_or_refused)
        assert traffic.server.get("/health/ready")[0] == 503
        server.start(cluster.settings, programs=cluster.programs)
        traffic.recovers("restarted")
        assert traffic.server.get("/health/ready")[0] == 200
    assert _started_at(traffic.warehouse) > before
    assert any(answer.is_stale for answer in traffic.answers)


def test_postgresql_is_killed(traffic: Traffic, cluster: Cluster) -> None:
    before = _started_at(traffic.warehouse)
    with traffic.running():
        for pid in _processes(cluster):
            os.kill(pid, signal.SIGKILL)
        traffic.until(_are_stale_or_refused)
        server.start(cluster.settings, programs=cluster.programs)
        traffic.recovers("killed")
    assert _started_at(traffic.warehouse) > before


def test_postgresql_stands_still(traffic: Traffic, cluster: Cluster) -> None:
    with traffic.running():
        with _frozen(cluster):
            begun = time.monotonic()
            traffic.until(_are_stale_or_refused)
            tell(f"frozen: noticed after {time.monotonic() - begun:.1f} s")
            unknown = traffic.ask(traffic.keys["alpha"], CALM)
            ready = traffic.ask(traffic.keys["alpha"], "/health/ready")
            assert (unknown.status, ready.status) == (503, 503)
            assert ready.body["missing"] == ["database"]
            tell(f"frozen: refused in {unknown.seconds:.3f} s")
            time.sleep(max(0, FROZEN_SECONDS - (time.monotonic() - begun)))
            known = traffic.ask(traffic.keys["alpha"])
            assert known.is_stale or known.status == 503, "a worker that had not answered it yet"
        traffic.recovers("frozen")
    longest = max(answer.seconds for answer in traffic.answers)
    tell(f"frozen: the longest answer took {longest:.1f} s")
    assert longest < 3 * LONGEST_SECONDS


def test_every_connection_is_taken(traffic: Traffic) -> None:
    calm = traffic.ask(traffic.keys["alpha"], CALM)
    assert calm.status == 200
    with traffic.running():
        connection = database.connect(traffic.warehouse.settings)
        with connection.cursor() as cursor:
            cursor.execute("lock table reporting.daily_metrics in access exclusive mode")
            _press(traffic, readers=40)
            until(lambda: _waiting_reads(traffic.warehouse) >= 16)
            answers = [traffic.ask(traffic.keys["alpha"], CALM) for _ in range(10)]
        connection.close()
        traffic.recovers("exhausted")
    assert {answer.status for answer in answers} <= {200, 503}
    tell(f"exhausted: answered in {max(answer.seconds for answer in answers):.1f} s at most")
    assert max(answer.seconds for answer in answers) < 3 * LONGEST_SECONDS


def test_the_listening_connections_are_cut_again_and_again(traffic: Traffic) -> None:
    ended: set[int] = set()

    def is_cut() -> bool:
        rows = traffic.warehouse.run(
            "select pid, pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'oversight-api-listen'"
        )
        new = {pid for pid, _ in rows} - ended
        ended.update(new)
        return bool(new)

    with traffic.running(refresh_seconds=0.03):
        for _ in range(6):
            until(is_cut)
            traffic.until(lambda new: len(new) >= 8)
        traffic.recovers("cut")
    assert {answer.status for answer in traffic.answers} == {200}


def test_a_worker_is_killed(traffic: Traffic) -> None:
    traffic.may_be_cut = True
    before = traffic.server.children()
    assert len(before) == 2
    with traffic.running():
        os.kill(min(before), signal.SIGKILL)
        until(lambda: len(traffic.server.children() - {min(before)}) == 2)
        traffic.recovers("worker killed")
    assert {answer.status for answer in traffic.answers} <= {200, 0}


def _are_stale_or_refused(answers: list[Answer]) -> bool:
    """Whether the fault has landed: the newest answers come without the database."""
    newest = answers[-4:]
    return len(newest) == 4 and all(item.status == 503 or item.is_stale for item in newest)


def _started_at(warehouse: ApiWarehouse) -> datetime:
    ((moment,),) = warehouse.run("select pg_postmaster_start_time()")
    assert isinstance(moment, datetime)
    return moment


def _waiting_reads(warehouse: ApiWarehouse) -> int:
    ((count,),) = warehouse.run(
        "select count(*) from pg_stat_activity"
        " where application_name = 'oversight-api' and wait_event_type = 'Lock'"
    )
    return int(count)


def _press(traffic: Traffic, *, readers: int) -> None:
    """So many more requests for the mart that is locked, each of its own window."""
    for number in range(readers):
        path = f"/api/reporting/v1/daily-metrics?from=2026-09-01&page_size={number + 1}"
        threading.Thread(
            target=traffic.ask, args=(traffic.keys["alpha"], path), daemon=True
        ).start()


def _processes(cluster: Cluster) -> list[int]:
    """The server's processes, the postmaster first."""
    pid_file = server_user.existing_data_dir(cluster.settings.home) / "postmaster.pid"
    postmaster = int(pid_file.read_text().split()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [postmaster, *map(int, children)]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


@contextmanager
def _frozen(cluster: Cluster) -> Iterator[None]:
    """Every process of the server stands still."""
    pids = _processes(cluster)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: {_state(pid) for pid in pids} == {"T"})
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
