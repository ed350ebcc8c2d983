"""The daemon pulls at the declared cadence; killed in the middle, another one does it again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from compared import ComparedWarehouse
from daemons import HandDaemon, deploy_to, log_of, wait_until
from engines import ServedEngine, newest, served, specification

from clusters import PROJECT_DIR
from runner.landing.load import load_engine
from runner.simulation.simulate import simulate
from warehouse.database import admin_dsn

JOB = "pull oversight"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedEngine]:
    with served(specification(rows=600), slow_seconds=30.0) as found:
        for name, value in found.environ.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def empty(built: ComparedWarehouse) -> ComparedWarehouse:
    """Nothing landed; the project's catalogue with small pages is deployed."""
    built.renew()
    sources = []
    for table in built.catalogue.sources:
        if table.endpoint is not None and table.endpoint.paging is not None:
            paging = replace(table.endpoint.paging, size=60)
            table = replace(table, endpoint=replace(table.endpoint, paging=paging))
        sources.append(table)
    deploy_to(built, replace(built.catalogue, sources=tuple(sources)))
    return built


def pulls(built: ComparedWarehouse) -> list[tuple[object, ...]]:
    return [(slot and f"{slot:%H:%M}", status) for job, slot, status in log_of(built) if job == JOB]


def has_ended(daemon: HandDaemon, built: ComparedWarehouse, count: int) -> bool:
    """Tick; whether so many pulls are in the log, each with its final state."""
    daemon.tick()
    statuses = [status for _, status in pulls(built)]
    return len(statuses) == count and "running" not in statuses


def test_the_daemon_pulls_at_the_declared_cadence(
    empty: ComparedWarehouse, engine: ServedEngine
) -> None:
    with HandDaemon(empty) as daemon:
        daemon.at("2026-11-20 10:01")
        empty.rows("update metadata.jobs set since = '2026-11-01' where job_name = %s", (JOB,))
        empty.rows(
            "insert into metadata.refresh_log (job_name, scheduled_for, status, finished_at)"
            " values (%s, '2026-11-20 09:50Z', 'success', now())",
            (JOB,),
        )
        empty.rows("select pg_notify('oversight_catalogue', '')")
        wait_until(lambda: has_ended(daemon, empty, 3), 30)
        assert pulls(empty) == [("09:50", "success"), ("09:55", "missed"), ("10:00", "success")]
        first = engine.requests()
        assert first > 4
        daemon.at("2026-11-20 10:04")
        daemon.finish()
        assert engine.requests() == first
        daemon.at("2026-11-20 10:05")
        daemon.finish()
    assert pulls(empty)[3:] == [("10:05", "success")]
    assert first < engine.requests() < 2 * first


def test_killed_in_mid_pull_the_next_daemon_does_it_again(
    empty: ComparedWarehouse, engine: ServedEngine, tmp_path: Path
) -> None:
    engine.switch(slow=[*range(6, 99)])
    environ = {
        **os.environ,
        "PYTHONPATH": str(PROJECT_DIR),
        "OVERSIGHT_DATABASE_URL": admin_dsn(empty.settings),
        "OVERSIGHT_HOME": str(tmp_path / "home"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "runner.cli", "schedule"],
        env=environ,
        cwd=PROJECT_DIR,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        empty.rows(
            "insert into metadata.job_requests (kind, arguments)"
            """ values ('pull', '{"engine": "oversight"}')"""
        )
        wait_until(lambda: engine.requests() >= 6, 60)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert pulls(empty) == [(None, "running")]
    assert newest(empty.settings)["events"] == []

    engine.switch()
    with HandDaemon(empty) as daemon:
        wait_until(lambda: has_ended(daemon, empty, 2), 60)
        daemon.finish()
    assert sorted(pulls(empty), key=str) == [(None, "abandoned"), (None, "success")]
    assert empty.rows("select status from metadata.job_requests") == [("done",)]

    pulled = newest(empty.settings)
    simulate(specification(rows=600, path=tmp_path / "extracts"))
    empty.renew()
    extracts = tmp_path / "extracts" / "oversight"
    load_engine(empty.settings, empty.catalogue, "oversight", extracts)
    assert pulled == newest(empty.settings)
