"""The jobs of the deployed catalogue, and what refresh_log knows of their slots."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from psycopg2.extensions import connection as Connection
from psycopg2.extras import execute_values

from runner.schedule.slots import Due, Job
from warehouse.catalogue import Catalogue


def wanted_jobs(catalogue: Catalogue, pulls: dict[str, str]) -> list[tuple[str, str, str]]:
    """Name, kind and cron line of every job; `pulls` has the cron line of each engine pulled."""
    jobs = [
        (mart.name, "refresh", mart.cadence) for mart in catalogue.marts if mart.cadence is not None
    ]
    jobs += [(f"pull {engine}", "pull", cadence) for engine, cadence in pulls.items()]
    for kind, cadence in (("nightly", catalogue.nightly), ("weekly", catalogue.weekly)):
        if cadence is not None:
            jobs.append((kind, kind, cadence))
    return jobs


def sync_jobs(connection: Connection, wanted: Iterable[tuple[str, str, str]]) -> list[Job]:
    """Make metadata.jobs what is wanted; a new job, or a new cadence, counts from now on."""
    rows = list(wanted)
    with connection.cursor() as cursor:
        cursor.execute(
            "delete from metadata.jobs where job_name <> all(%s)", ([row[0] for row in rows],)
        )
        if rows:
            execute_values(
                cursor,
                "insert into metadata.jobs as j (job_name, kind, cadence) values %s "
                "on conflict (job_name) do update set kind = excluded.kind, "
                "cadence = excluded.cadence, since = clock_timestamp() "
                "where (j.kind, j.cadence) <> (excluded.kind, excluded.cadence)",
                rows,
            )
        cursor.execute("select job_name, kind, cadence, since, clock from metadata.jobs")
        return [
            Job(name=name, kind=kind, cadence=cadence, since=since, clock=clock)
            for name, kind, cadence, since, clock in cursor.fetchall()
        ]


def taken_slots(connection: Connection, now: datetime) -> dict[str, datetime]:
    """The newest slot of each job that has a row; one of the future was never a slot."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select j.job_name, l.scheduled_for from metadata.jobs as j cross join lateral ("
            "select max(scheduled_for) as scheduled_for from metadata.refresh_log "
            "where job_name = j.job_name and scheduled_for <= %s) as l "
            "where l.scheduled_for is not null",
            (now,),
        )
        return dict(cursor.fetchall())


def stopped_jobs(connection: Connection) -> list[str]:
    """Jobs whose newest run ended with its runner, not by request, and was no second try."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select j.job_name from metadata.jobs as j cross join lateral ("
            "select * from metadata.refresh_log where job_name = j.job_name "
            "order by run_id desc limit 1) as l "
            "where l.status = 'cancelled' and l.cancel_requested_at is null "
            "and l.scheduled_for is not null"
        )
        return [str(row[0]) for row in cursor.fetchall()]


def write_missed(connection: Connection, dues: Iterable[Due], *, epoch: int, reason: str) -> int:
    """Give every slot that nobody took its one row; gives back how many were written."""
    rows = [(due.job.name, slot) for due in dues for slot in due.missed]
    if not rows:
        return 0
    return _write(connection, rows, status="missed", epoch=epoch, reason=reason)


def write_skipped(connection: Connection, due: Due, *, epoch: int) -> int:
    """The row of a slot that came while the job's last run was still under way."""
    return _write(
        connection,
        [(due.job.name, due.slot)],
        status="skipped_overlap",
        epoch=epoch,
        reason="this job is still running",
    )


def _write(
    connection: Connection,
    rows: list[tuple[str, datetime]],
    *,
    status: str,
    epoch: int,
    reason: str,
) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            insert into metadata.refresh_log
                (job_name, scheduled_for, finished_at, status, epoch, error_message, rows_affected)
            select r.job_name, r.scheduled_for, clock_timestamp(), %s, l.epoch, %s, 0
            from unnest(%s::text[], %s::timestamptz[]) as r (job_name, scheduled_for)
            cross join (
                select epoch from metadata.leadership where epoch = %s for share
            ) as l
            on conflict (job_name, scheduled_for) do nothing
            """,
            (status, reason, [row[0] for row in rows], [row[1] for row in rows], epoch),
        )
        return cursor.rowcount
