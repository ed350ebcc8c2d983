"""The scheduler takes cadences from the deployed catalogue, in UTC, and keeps up with it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
from projects import copy_project, edit

from clusters import Cluster
from runner.schedule import daemon as schedule
from runner.schedule.daemon import jobs, make_scheduler
from warehouse.catalogue import deploy, read_catalogue
from warehouse.errors import OversightError
from warehouse.settings import Settings

MODELS = "models/reporting/_reporting__models.yml"


@pytest.fixture(scope="module")
def project(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A deployed copy of the project."""
    empty = server18.migrated_database()
    settings = dataclasses.replace(
        empty,
        project_dir=copy_project(tmp_path_factory.mktemp("project")),
        home=tmp_path_factory.mktemp("home"),
    )
    deploy(settings)
    yield settings
    server18.drop_database(Cluster.name_of(empty))


def test_every_mart_with_a_cadence_has_a_job_and_a_view_has_none(project: Settings) -> None:
    assert jobs(read_catalogue(project.project_dir)) == {
        "daily_metrics": "*/15 * * * *",
        "weekly_partner_performance": "0 * * * *",
    }


def test_slots_are_in_utc_whatever_the_machine_says(
    project: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        scheduler = make_scheduler(project)
        job = next(job for job in scheduler.get_jobs() if job.id == "weekly_partner_performance")
        now = datetime(2026, 11, 1, 11, 50, tzinfo=timezone.utc)
        due = job.trigger.get_next_fire_time(None, now)
        assert due == datetime(2026, 11, 1, 12, 0, tzinfo=timezone.utc)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_newly_deployed_cadence_is_taken_over_and_due_marts_run(
    project: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(schedule, "RELOAD_SECONDS", 1)
    monkeypatch.setattr(schedule, "refresh", lambda _settings, marts, **_: ran.extend(marts))
    scheduler = make_scheduler(project)
    scheduler.start()
    try:
        edit(project.project_dir, MODELS, "*/15 * * * *", "* * * * *")
        deploy(project)
        deadline = time.monotonic() + 100
        while "daily_metrics" not in ran and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        scheduler.shutdown(wait=True)
    assert ran[0] == "daily_metrics"


def test_a_failing_run_does_not_end_the_schedule(
    project: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OversightError("the database is away")

    monkeypatch.setattr(schedule, "refresh", fail)
    schedule.run_job(project, "daily_metrics")
