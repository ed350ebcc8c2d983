"""Sinks that hang, refuse or are slow, and runners that die or meet: told once, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from api_warehouse import ApiWarehouse
from compared import ComparedWarehouse
from daemons import HandDaemon, deploy_to, wait_until
from sinks import SECRET, Sink, running_sink

from clusters import PROJECT_DIR
from runner.alerts import check
from warehouse.settings import Settings

LIMIT_SECONDS = 6
_RUNNER = """
from runner.alerts.check import check_alerts
from runner.logs import configure
from warehouse.settings import load_settings
configure(is_service=True)
check_alerts(load_settings())
"""


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running_sink() as made:
        yield made


@pytest.fixture
def other_sink() -> Iterator[Sink]:
    with running_sink() as made:
        yield made


@pytest.fixture
def failing(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> ApiWarehouse:
    """A job has failed, so that there is something to tell."""
    monkeypatch.setattr(check, "SEND_SECONDS", LIMIT_SECONDS)
    made = ApiWarehouse(settings=warehouse)
    made.run(
        "insert into metadata.jobs (job_name, kind, cadence) values ('m', 'refresh', '0 0 1 1 *');"
        "update metadata.leadership set heartbeat_at = 'infinity';"
        "insert into metadata.refresh_log (job_name, finished_at, status)"
        " values ('m', clock_timestamp(), 'failed')"
    )
    return made


def recover(failing: ApiWarehouse) -> None:
    failing.run(
        "insert into metadata.refresh_log (job_name, finished_at, status)"
        " values ('m', clock_timestamp(), 'success')"
    )


def check_with(failing: ApiWarehouse, *sinks: Sink) -> None:
    check.check_alerts(replace(failing.settings, alerts=tuple(one.url for one in sinks)))


def a_runner(failing: ApiWarehouse, sink: Sink) -> subprocess.Popen[str]:
    """A check by a process of its own, as a leader on another machine."""
    return subprocess.Popen(
        [sys.executable, "-c", _RUNNER],
        cwd=PROJECT_DIR,
        env={
            **os.environ,
            "OVERSIGHT_DATABASE_URL": str(failing.settings.database_url),
            "OVERSIGHT_ALERTS": sink.url,
        },
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_sink_that_hangs_is_left_in_time_and_holds_up_neither_database_nor_others(
    failing: ApiWarehouse, sink: Sink, other_sink: Sink, capsys: pytest.CaptureFixture[str]
) -> None:
    sink.hangs = True
    started = time.monotonic()
    checking = threading.Thread(target=check_with, args=(failing, sink, other_sink))
    checking.start()
    sink.wait_until_asked(1)
    assert checking.is_alive(), "the sink did not hang"
    assert failing.run(
        "select count(*) from pg_stat_activity"
        " where application_name = 'oversight alerts' and datname = current_database()"
    ) == [(0,)], "a connection is held while a sink hangs"
    checking.join(3 * LIMIT_SECONDS)
    assert not checking.is_alive()
    assert f"it did not answer within {LIMIT_SECONDS} seconds" in capsys.readouterr().out
    print(f"left after {time.monotonic() - started:.1f} s, limit {LIMIT_SECONDS} s")  # noqa: T201
    assert other_sink.titles == ["Oversight: 1 new"]
    assert failing.run("select told, claimed_until from metadata.alerts") == [(["2 json"], None)]

    sink.hangs = False
    for _ in range(2):
        check_with(failing, sink, other_sink)
    assert sink.titles == ["Oversight: 1 new"]
    assert other_sink.titles == ["Oversight: 1 new"]


def test_a_sink_that_hangs_delays_no_job_of_the_daemon(
    built: ComparedWarehouse, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "SEND_SECONDS", 120)
    built.renew()
    deploy_to(built)
    built.rows(
        "insert into metadata.refresh_log (job_name, epoch, finished_at, status)"
        " values ('asked for', 1, clock_timestamp(), 'failed')"
    )
    sink.hangs = True
    with HandDaemon(built) as daemon:
        daemon.settings = replace(daemon.settings, alerts=(sink.url,))
        daemon.tick()
        sink.wait_until_asked(1)
        built.rows(
            "insert into metadata.job_requests (kind, arguments)"
            """ values ('refresh', '{"marts": ["daily_metrics"]}')"""
        )
        daemon.tick()
        took = wait_until(lambda: daemon.lanes.is_idle("refresh"), 60)
        assert not daemon.lanes.is_idle("alerts"), "the sink did not hang until then"
        sink.release.set()
    print(f"a refresh took {took:.1f} s while the sink hung")  # noqa: T201
    assert built.rows("select status from metadata.job_requests") == [("done",)]


def test_a_sink_that_refuses_is_tried_again_and_loses_nothing(
    failing: ApiWarehouse, sink: Sink
) -> None:
    sink.status = 500
    check_with(failing, sink)
    first = sink.asked
    assert first > 0
    recover(failing)
    check_with(failing, sink)
    assert sink.asked > first
    assert sink.taken == []

    sink.status = 200
    for _ in range(2):
        check_with(failing, sink)
    assert sink.titles == ["Oversight: 1 new, 1 over"]
    assert failing.run("select closed_at is not null from metadata.alerts") == [(True,)]


def test_nobody_at_the_address_is_an_answer_too(failing: ApiWarehouse, sink: Sink) -> None:
    with running_sink() as gone:
        pass
    check_with(failing, gone, sink)
    assert sink.titles == ["Oversight: 1 new"]
    assert failing.run("select told from metadata.alerts") == [(["2 json"],)]


def test_runners_that_check_at_once_tell_it_once(failing: ApiWarehouse, sink: Sink) -> None:
    sink.slow_seconds = 1
    together = [threading.Thread(target=check_with, args=(failing, sink)) for _ in range(5)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join(60)
    assert sink.titles == ["Oversight: 1 new"]
    assert failing.run("select count(*) from metadata.alerts") == [(1,)]


def test_another_leader_knows_what_was_told(failing: ApiWarehouse, sink: Sink) -> None:
    assert a_runner(failing, sink).wait(60) == 0
    assert sink.titles == ["Oversight: 1 new"]
    check_with(failing, sink)
    recover(failing)
    assert a_runner(failing, sink).wait(60) == 0
    check_with(failing, sink)
    assert sink.titles == ["Oversight: 1 new", "Oversight: 1 over"]


def test_what_a_killed_runner_had_claimed_is_told_by_the_next(
    failing: ApiWarehouse, sink: Sink
) -> None:
    sink.hangs = True
    runner = a_runner(failing, sink)
    sink.wait_until_asked(1)
    runner.send_signal(signal.SIGKILL)
    assert runner.wait(10) == -signal.SIGKILL
    sink.hangs = False
    check_with(failing, sink)
    assert sink.taken == [], "its claim was not honoured"

    failing.run("update metadata.alerts set claimed_until = clock_timestamp() - interval '1 s'")
    for _ in range(2):
        check_with(failing, sink)
    assert sink.titles == ["Oversight: 1 new"]


def test_addresses_are_in_no_log_no_list_of_processes_and_no_table(
    failing: ApiWarehouse, sink: Sink
) -> None:
    sink.hangs = True
    runner = a_runner(failing, sink)
    sink.wait_until_asked(1)
    processes = subprocess.run(
        ["ps", "-A", "-o", "args"], capture_output=True, text=True, check=True
    )
    assert "runner.alerts.sink" in processes.stdout
    sink.release.set()
    sink.status = 500
    _, logged = runner.communicate(timeout=60)
    failing.run("update metadata.alerts set claimed_until = null, told = '{}'")
    sink.hangs = False
    _, refused = a_runner(failing, sink).communicate(timeout=60)
    assert "alert sink failed" in refused
    ((rows,),) = failing.run("select jsonb_agg(a)::text from metadata.alerts as a")
    assert SECRET not in processes.stdout + logged + refused + rows
