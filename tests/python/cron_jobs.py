"""Marts that are due by a clock, and what the database says of their jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from landings import SPEND

from runner.schedule.cron_status import JobStatus, status
from warehouse.database import connect
from warehouse.declared import Catalogue, Mart
from warehouse.settings import Settings

MINUTE_SECONDS = 60
LOGIN = "plain_timer"
TIDY = ["forget-requests", "forget-runs"]


def mart(name: str, cadence: str | None) -> Mart:
    return Mart(
        name=name,
        path=name.replace("_", "-"),
        description="Small. One row per day.",
        grain=("day",),
        columns=(),
        cadence=cadence,
        freshness_sla_seconds=900,
        refresh="full",
        scope={},
        readers=("reader",),
    )


def deploy(settings: Settings, **cadences: str | None) -> None:
    """Make a catalogue of marts with these cadences the deployed one."""
    marts = tuple(mart(name, cadence) for name, cadence in cadences.items())
    catalogue = Catalogue(sources=(SPEND,), feeds=(), marts=marts)
    rows(
        settings,
        "insert into metadata.catalogue (content_hash, content) values (%s, %s)",
        (catalogue.content_hash, catalogue.to_json()),
    )


def rows(settings: Settings, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    connection = connect(settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, tuple(parameters) or None)
            return cursor.fetchall() if cursor.description is not None else []
    finally:
        connection.close()


def clocks(settings: Settings) -> dict[str, str]:
    return dict(rows(settings, "select job_name, clock from metadata.jobs"))


def by_job(settings: Settings) -> dict[str, JobStatus]:
    return {job.job: job for job in status(settings)}
