"""How runs begin: their rows and their locks, in one transaction, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

from psycopg2.extensions import connection as Connection

from warehouse.errors import OversightError

LIVES = 0x0517
"""First half of the advisory lock that a run holds while it lives; its run_id is the second."""


class SlotTaken(OversightError):  # noqa: N818
    """This slot of the job has its row already; nothing is to be done."""


class Superseded(OversightError):  # noqa: N818
    """Another runner leads by now; what this one wanted to start is not started."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The rows that were written for jobs: run_id by job of those to do, and of those skipped."""

    run_ids: dict[str, int]
    skipped: dict[str, int]
    instance_id: str


def open_rows(
    connection: Connection, slots: dict[str, datetime | None], *, epoch: int | None
) -> Opened:
    """Write the rows of the jobs that can start now, in one transaction.

    A job that runs elsewhere gets its row as `skipped_overlap`. Slots that have a row already are
    left out; SlotTaken when that leaves none and none was skipped.
    """
    opened: dict[str, int] = {}
    skipped: dict[str, int] = {}
    with connection.cursor() as cursor:
        # A process that freezes in here must not keep the next leader waiting for its locks.
        cursor.execute(
            "begin; set local idle_in_transaction_session_timeout = '5s'; "
            "set local lock_timeout = '5s'"
        )
        try:
            if epoch is not None:
                cursor.execute(
                    "select from metadata.leadership where epoch = %s for share", (epoch,)
                )
                if cursor.rowcount == 0:
                    raise Superseded("another runner leads by now")
            for job_name, scheduled_for in slots.items():
                # The row first: whoever has the slot is the one to ask whether the job is free.
                cursor.execute(
                    "insert into metadata.refresh_log "
                    "(job_name, scheduled_for, epoch, lead_run_id, project_version) "
                    "values (%s, %s, %s, %s, %s) "
                    "on conflict (job_name, scheduled_for) do nothing returning run_id",
                    (
                        job_name,
                        scheduled_for,
                        epoch,
                        next(iter(opened.values()), None),
                        version("oversight"),
                    ),
                )
                row = cursor.fetchone()
                if row is None:
                    continue
                run_id = int(row[0])
                cursor.execute(
                    "select pg_try_advisory_lock(hashtextextended('oversight job ' || %s, 0))",
                    (job_name,),
                )
                row = cursor.fetchone()
                if row and row[0]:
                    cursor.execute("select pg_advisory_lock(%s, %s)", (LIVES, run_id))
                    opened[job_name] = run_id
                    continue
                skipped[job_name] = run_id
                cursor.execute(
                    "update metadata.refresh_log set status = 'skipped_overlap', "
                    "finished_at = clock_timestamp(), lead_run_id = null, rows_affected = 0, "
                    "error_message = 'this job is still running' where run_id = %s",
                    (run_id,),
                )
            cursor.execute("select instance_id::text from metadata.instance")
            instance = cursor.fetchone()
            assert instance is not None
            cursor.execute("commit")
        except BaseException:
            if not connection.closed:
                cursor.execute("rollback")
            raise
    if not opened and not skipped:
        raise SlotTaken(f"{', '.join(slots)}: this slot has its row already")
    return Opened(run_ids=opened, skipped=skipped, instance_id=str(instance[0]))


def hold(connection: Connection, run_ids: dict[str, int]) -> None:
    """Take the locks again, on a new connection: that these runs live, and have their jobs."""
    with connection.cursor() as cursor:
        for job_name, run_id in run_ids.items():
            cursor.execute(
                "select pg_try_advisory_lock(%s, %s), "
                "pg_try_advisory_lock(hashtextextended('oversight job ' || %s, 0))",
                (LIVES, run_id, job_name),
            )


def release(connection: Connection, job_names: Iterable[str]) -> None:
    """Let the next run of these jobs begin; a closed connection's locks go only a moment later."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select pg_advisory_unlock(hashtextextended('oversight job ' || job_name, 0)) "
            "from unnest(%s) as t (job_name)",
            (list(job_names),),
        )
