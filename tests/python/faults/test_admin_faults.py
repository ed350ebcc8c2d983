"""Calls of the administration that are cut off: all of a call and its row, or nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from administration import BACKFILLS, Admin, deploy_with_engines
from api_warehouse import ApiWarehouse, make_warehouse
from daemons import wait_until
from server_process import ServerProcess

from clusters import Cluster, memory_disk, start_cluster, stop_cluster
from warehouse import database, server

WEEKS = {"engine": "oversight", "from": "2026-W02", "to": "2026-W03"}
AT_ONCE = 20
UNDER_WAY = """
    select count(*) from pg_stat_activity
    where usename = 'oversight_api' and state = 'active' and query like '%audit_log%'
"""
WAITING = f"{UNDER_WAY} and wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server of these tests' own, to be stopped and started."""
    made = start_cluster("18", memory_disk())
    assert made is not None
    yield made
    stop_cluster(made)


@pytest.fixture(scope="module")
def warehouse(cluster: Cluster) -> ApiWarehouse:
    made = make_warehouse(cluster, cluster.migrated_database())
    deploy_with_engines(made)
    return made


@pytest.fixture
def served(warehouse: ApiWarehouse, tmp_path: Path) -> Iterator[ServerProcess]:
    """The API as two processes."""
    process = ServerProcess(warehouse, tmp_path / "log")
    try:
        process.wait_until_ready()
        yield process
    finally:
        if process.process.poll() is None:
            process.stop()


def ask(served: ServerProcess, api_key: str, key: str) -> tuple[int, Any]:
    """POST the backfill; status 0 when the connection was cut."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{served.port}{BACKFILLS}",
        data=json.dumps(WEEKS).encode(),
        headers={
            "Authorization": f"Bearer {api_key}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, None


@contextmanager
def no_rows_can_be_added(warehouse: ApiWarehouse) -> Iterator[None]:
    """A call has done what was asked, and waits with its row, until this ends."""
    connection = database.connect(warehouse.settings)
    try:
        with connection.cursor() as cursor:
            cursor.execute("lock table metadata.audit_log in share mode")
        yield
    finally:
        connection.close()


def jobs(warehouse: ApiWarehouse, key: str) -> int:
    """How many jobs the key has made, each whole."""
    found = warehouse.run(
        "select b.backfill_id, count(w.week) from metadata.job_requests as r"
        " left join metadata.backfills as b using (request_id)"
        " left join metadata.backfill_weeks as w using (backfill_id)"
        " where r.idempotency_key like %s group by r.request_id, b.backfill_id",
        f"api % {key}",
    )
    assert all(row[0] is not None and row[1] == 2 for row in found), "half a job"
    return len(found)


def outcomes(warehouse: ApiWarehouse, key: str) -> Counter[str]:
    """What the trail says of the calls with the key."""
    rows = warehouse.run(
        "select outcome from metadata.audit_log where idempotency_key = %s order by audit_id", key
    )
    return Counter(row[0] for row in rows)


def test_the_same_call_many_times_at_once_is_one_job_and_each_call_a_row(
    warehouse: ApiWarehouse, served: ServerProcess
) -> None:
    api_key = warehouse.key("at-once", "admin", organization=["*"])
    barrier = threading.Barrier(AT_ONCE)

    def call(_: int) -> list[tuple[int, Any]]:
        """All answers until it is accepted: so many at once may be asked to come again."""
        barrier.wait()
        answers = [ask(served, api_key, "at-once")]
        while answers[-1][0] == 503 and len(answers) < 100:
            answers.append(ask(served, api_key, "at-once"))
        return answers

    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(call, range(AT_ONCE)))
    assert [tries[-1][0] for tries in answers] == [202] * AT_ONCE, answers
    assert len({tries[-1][1]["id"] for tries in answers}) == 1
    assert jobs(warehouse, "at-once") == 1
    found = outcomes(warehouse, "at-once")
    assert (found["accepted"], found["replayed"]) == (1, AT_ONCE - 1)


@pytest.mark.parametrize("number", range(2))
def test_an_api_that_is_killed_between_job_and_row_leaves_both_or_nothing(
    warehouse: ApiWarehouse, served: ServerProcess, number: int
) -> None:
    """With the second number its connections are cut, too: then it is nothing."""
    key = f"killed-{number}"
    api_key = warehouse.key(key, "admin", organization=["*"])
    with ThreadPoolExecutor(1) as threads, no_rows_can_be_added(warehouse):
        answer = threads.submit(ask, served, api_key, key)
        wait_until(lambda: warehouse.run(WAITING) == [(1,)], 10)
        workers = served.children()
        served.stop(signal.SIGKILL)
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        if number == 1:
            warehouse.run(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where usename = 'oversight_api'"
            )
            wait_until(lambda: warehouse.run(UNDER_WAY) == [(0,)], 10)
    assert answer.result()[0] == 0, "the fault landed"
    wait_until(lambda: warehouse.run(UNDER_WAY) == [(0,)], 10)
    made = jobs(warehouse, key)
    assert outcomes(warehouse, key)["accepted"] == made
    assert number == 0 or made == 0
    again = Admin(warehouse, warehouse.client(api_key)).post(BACKFILLS, WEEKS, key)
    assert again.status_code == 202
    assert jobs(warehouse, key) == 1
    assert outcomes(warehouse, key)["accepted"] == 1


def test_a_restart_of_the_database_in_mid_call_loses_and_doubles_nothing(
    warehouse: ApiWarehouse, served: ServerProcess, cluster: Cluster
) -> None:
    api_key = warehouse.key("restarted", "admin", organization=["*"])
    with ThreadPoolExecutor(1) as threads, no_rows_can_be_added(warehouse):
        answer = threads.submit(ask, served, api_key, "restarted")
        wait_until(lambda: warehouse.run(WAITING) == [(1,)], 10)
        server.stop(cluster.settings, programs=cluster.programs)
        server.start(cluster.settings, programs=cluster.programs)
        status, body = answer.result()
    assert status in (202, 503), body
    assert outcomes(warehouse, "restarted")["accepted"] == jobs(warehouse, "restarted")
    # Promised are ten seconds.
    took = wait_until(lambda: ask(served, api_key, "restarted")[0] == 202, 30)
    sys.stdout.write(f"answered again {took:.1f} s after the restart\n")
    assert jobs(warehouse, "restarted") == 1
    assert outcomes(warehouse, "restarted")["accepted"] == 1
