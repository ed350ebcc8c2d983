"""What pg_cron holds beside what is deployed, and what to do where they differ."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime

from psycopg2.extensions import connection as Connection

from runner.schedule.cron_server import CronEntry, CronServer, Wanted
from runner.schedule.pg_cron import declared_jobs, is_right, job_of, wanted_entries
from runner.schedule.slots import next_slot
from warehouse import database
from warehouse.catalogue import deployed
from warehouse.settings import Settings

_AGAIN = "run `oversight db pg-cron install` again"


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """One job; `problem` says what is wrong and what to do, None when all is well.

    `clock` is who makes its slots; it, `cadence` and `next_slot` are None when it is not declared.
    """

    job: str
    clock: str | None = None
    cadence: str | None = None
    pg_cron_cadence: str | None = None
    is_active: bool | None = None
    last_status: str | None = None
    last_run_at: datetime | None = None
    last_requested_slot: datetime | None = None
    next_slot: datetime | None = None
    problem: str | None = None


def status(settings: Settings) -> list[JobStatus]:
    """Each job of the deployed catalogue, then whatever else of ours pg_cron holds."""
    connection = database.connect(settings, autocommit=True)
    try:
        catalogue = deployed(connection)
        cadences = {name: cadence for name, _, cadence in declared_jobs(connection, catalogue)}
        clocks = _clocks(connection)
        now = _now(connection)
        with CronServer(settings, connection) as server:
            zone_problem = server.zone_problem()
            wanted, _ = wanted_entries(cadences, server)
            entries = server.entries()
    finally:
        connection.close()
    held: dict[str, CronEntry] = {}
    others: list[CronEntry] = []
    for entry in entries:
        job = job_of(entry)
        if job in held or (job not in wanted and job not in cadences):
            others.append(entry)
        else:
            held[job] = entry
    found = []
    for job in [*cadences, *(job for job in wanted if entries and job not in cadences)]:
        clock, slot = clocks.get(job, ("runner" if job in cadences else "pg_cron", None))
        problem = _problem(clock, wanted.get(job), held.get(job), is_installed=bool(entries))
        cadence = cadences[job] if job in cadences else wanted[job].cadence
        found.append(
            dataclasses.replace(
                _seen(job, held.get(job)),
                clock=clock,
                cadence=cadence,
                last_requested_slot=slot,
                next_slot=next_slot(cadence, now),
                problem=zone_problem or problem,
            )
        )
    for entry in others:
        problem = f"nobody wants it (login {entry.user} made it); {_AGAIN} to remove it"
        found.append(dataclasses.replace(_seen(job_of(entry), entry), problem=problem))
    return found


def _problem(
    clock: str, wanted: Wanted | None, entry: CronEntry | None, *, is_installed: bool
) -> str | None:
    if entry is None:
        if clock == "pg_cron":
            return (
                f"pg_cron does not hold it, so nobody asks for it; {_AGAIN}, or `oversight db "
                "pg-cron remove` and the runner keeps time"
            )
        if wanted is not None and is_installed:
            return f"declared since the install, so the runner keeps its time; {_AGAIN}"
        return None
    if clock == "runner":
        return f"the runner keeps its time, and what pg_cron asks for is not done; {_AGAIN}"
    if wanted is None:
        return f"declared since in a way that pg_cron can't keep; {_AGAIN}"
    if entry.held.cadence != wanted.cadence:
        return f"declared otherwise since; {_AGAIN}"
    if not is_right(wanted, entry):
        return f"switched off or changed in cron.job; {_AGAIN}"
    if entry.last_status == "failed":
        return (
            f"its last run there failed: {' '.join(str(entry.last_message).split())}{_hint(entry)}"
        )
    return None


def _hint(entry: CronEntry) -> str:
    if "connect" not in str(entry.last_message):
        return ""
    return (
        "; pg_cron connects by TCP as this login unless cron.use_background_workers = on in "
        "postgresql.conf (or cron.host is the socket's folder)"
    )


def _seen(job: str, entry: CronEntry | None) -> JobStatus:
    if entry is None:
        return JobStatus(job=job)
    return JobStatus(
        job=job,
        pg_cron_cadence=entry.held.cadence,
        is_active=entry.is_active,
        last_status=entry.last_status,
        last_run_at=entry.last_run_at,
    )


def _clocks(connection: Connection) -> dict[str, tuple[str, datetime | None]]:
    """By job: who makes its slots, and the newest that pg_cron asked for."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select j.job_name, j.clock, max(r.scheduled_for) from metadata.jobs as j "
            "left join metadata.job_requests as r "
            "on starts_with(r.idempotency_key, 'pg_cron ' || j.job_name || ' ') "
            "group by j.job_name, j.clock"
        )
        return {name: (clock, slot) for name, clock, slot in cursor.fetchall()}


def _now(connection: Connection) -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("select now()")
        row = cursor.fetchone()
    assert row is not None
    now: datetime = row[0]
    return now
