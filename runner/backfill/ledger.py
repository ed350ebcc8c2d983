"""The ledger of a backfill: which week is whose, what it landed, how it ended.

Every write names the attempt that it is of, so that a process that lost its turn and wakes up
changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg2.extras import RealDictCursor as Cursor

from warehouse.backfills import BackfillError
from warehouse.database import connect
from warehouse.settings import Settings

ENDED = ("done", "failed", "cancelled")
_ERROR_CHARACTERS = 2000


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a backfill is, as metadata.backfill_progress has it; weeks as 2026-W05."""

    backfill_id: int
    engine: str
    first_week: str
    last_week: str
    status: str
    weeks: int
    weeks_done: int
    weeks_skipped: int
    weeks_failed: int
    weeks_left: int
    percent: float
    running_week: str | None
    failed_weeks: tuple[str, ...]
    rows_landed: int
    rows_rejected: int
    requested_by: str
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error_message: str | None

    @property
    def is_ended(self) -> bool:
        """Whether nothing will be done any more unless somebody asks for it."""
        return self.status in ENDED


@dataclass(frozen=True, kw_only=True)
class Week:
    """A week as one attempt found it; `batch_id` is what an earlier attempt had landed."""

    backfill_id: int
    week: date
    attempt: int
    last_attempt: int
    batches_before: int
    batch_id: int | None


@contextmanager
def ledger(settings: Settings) -> Iterator[Cursor]:
    """A cursor of one transaction, as dbt's role, which may read raw tables and marts."""
    connection = connect(settings, role="oversight_owner", application_name="oversight backfill")
    try:
        with connection, connection.cursor(cursor_factory=Cursor) as cursor:
            yield cursor
    finally:
        connection.close()


def progress(settings: Settings, backfill_id: int) -> Progress:
    """How far one backfill is; BackfillError when there is none of that number."""
    found = all_progress(settings, backfill_id=backfill_id)
    if not found:
        raise BackfillError(f"there is no backfill {backfill_id}; see `oversight backfill list`")
    return found[0]


def all_progress(settings: Settings, *, backfill_id: int | None = None) -> list[Progress]:
    """How far every backfill is, the newest first."""
    with ledger(settings) as cursor:
        cursor.execute(
            "select * from metadata.backfill_progress "
            "where backfill_id = %(id)s or %(id)s is null order by backfill_id desc",
            {"id": backfill_id},
        )
        return [
            Progress(
                **{
                    **row,
                    "percent": float(row["percent"]),
                    "failed_weeks": tuple(row["failed_weeks"]),
                }
            )
            for row in cursor.fetchall()
        ]


def weeks_of(settings: Settings, backfill_id: int) -> list[dict[str, Any]]:
    """Every week of a backfill with all that the ledger knows of it."""
    with ledger(settings) as cursor:
        cursor.execute(
            """select to_char(week, 'IYYY-"W"IW') as week, status, attempt, batch_id, rows_landed,
                rows_rejected, landed_checksum, mart_checksums, error_message, started_at,
                finished_at
            from metadata.backfill_weeks where backfill_id = %s order by backfill_weeks.week""",
            (backfill_id,),
        )
        return [dict(row) for row in cursor.fetchall()]


def note_run(settings: Settings, backfill_id: int, run_id: int) -> None:
    """Which run will do it, so that its death is noticed even while it waits for its turn."""
    with ledger(settings) as cursor:
        cursor.execute(
            "update metadata.backfills as b set run_id = %s "
            "where b.backfill_id = %s and not exists (select from metadata.refresh_log as l "
            "where l.run_id = b.run_id and l.status = 'running')",
            (run_id, backfill_id),
        )


def begin(settings: Settings, backfill_id: int, run_id: int) -> bool:
    """Note that a run works on it; False when it was paused, cancelled or has ended."""
    with ledger(settings) as cursor:
        cursor.execute(
            "update metadata.backfills set status = 'running', run_id = %s, "
            "started_at = coalesce(started_at, clock_timestamp()) "
            "where backfill_id = %s and status in ('pending', 'running')",
            (run_id, backfill_id),
        )
        return cursor.rowcount == 1


def claim(settings: Settings, backfill_id: int) -> Week | None:
    """Start an attempt: of the week that a dead process left, else of the one tried least.

    None when nothing is left to do, or when the backfill was paused or cancelled.
    """
    with ledger(settings) as cursor:
        cursor.execute(
            """
            update metadata.backfill_weeks as w
            set
                status = 'running',
                attempt = w.attempt + 1,
                started_at = clock_timestamp(),
                error_message = null,
                batches_before = coalesce(
                    w.batches_before, (select coalesce(max(batch_id), 0) from metadata.batches)
                )
            from (
                select k.backfill_id, k.week
                from metadata.backfill_weeks as k
                join metadata.backfills as b using (backfill_id)
                where
                    k.backfill_id = %s and b.status = 'running'
                    and (
                        k.status = 'running'
                        or (k.status = 'pending' and (not b.is_only_failed or k.attempt > 0))
                    )
                order by k.status = 'running' desc, k.attempt, k.week
                limit 1
                for update of k, b
            ) as next
            where w.backfill_id = next.backfill_id and w.week = next.week
            returning w.backfill_id, w.week, w.attempt, w.last_attempt, w.batches_before, w.batch_id
            """,
            (backfill_id,),
        )
        row = cursor.fetchone()
        return Week(**row) if row else None


def note(cursor: Cursor, week: Week, **values: Any) -> None:
    """Write columns of a week that is still this attempt's; BackfillError when it is not."""
    columns = ", ".join(f"{name} = %({name})s" for name in values)
    prepared = {
        name: json.dumps(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
    }
    cursor.execute(
        f"update metadata.backfill_weeks set {columns} where backfill_id = %(of_backfill)s "
        "and week = %(of_week)s and attempt = %(of_attempt)s and status = 'running'",
        {
            **prepared,
            "of_backfill": week.backfill_id,
            "of_week": week.week,
            "of_attempt": week.attempt,
        },
    )
    if cursor.rowcount != 1:
        raise BackfillError(
            f"backfill {week.backfill_id}: another process has taken the week of {week.week} over"
        )


def end_week(cursor: Cursor, week: Week, status: str, **values: Any) -> None:
    """Write how a week ended."""
    cursor.execute("select clock_timestamp() as now")
    row: Any = cursor.fetchone()
    note(cursor, week, status=status, finished_at=row["now"], **values)


def fail_attempt(settings: Settings, week: Week, error: str) -> None:
    """The week waits for its next attempt, after those not tried yet, or has failed."""
    message = error[:_ERROR_CHARACTERS]
    with ledger(settings) as cursor:
        if week.attempt < week.last_attempt:
            note(cursor, week, status="pending", error_message=message)
        else:
            end_week(cursor, week, "failed", error_message=message)


def give_back(settings: Settings, week: Week) -> None:
    """The run was stopped in the middle: the attempt was none of the week's fault."""
    with ledger(settings) as cursor:
        note(cursor, week, status="pending", attempt=week.attempt - 1)


def finish(settings: Settings, backfill_id: int) -> str:
    """Write how the backfill ended, and its request with it; gives back the status.

    Weeks never tried, which a resume of only failed ones leaves, make it `paused`. What was paused
    or cancelled meanwhile stays so.
    """
    with ledger(settings) as cursor:
        cursor.execute(
            """
            update metadata.backfills as b
            set
                status = p.status,
                finished_at = case when p.status <> 'paused' then clock_timestamp() end,
                error_message = p.error
            from (
                select
                    case
                        when count(*) filter (where status = 'failed') > 0 then 'failed'
                        when bool_or(status in ('pending', 'running')) then 'paused'
                        else 'done'
                    end as status,
                    string_agg(
                        to_char(week, 'IYYY-"W"IW') || ': ' || error_message, '; ' order by week
                    ) filter (where status = 'failed') as error
                from metadata.backfill_weeks where backfill_id = %(id)s
            ) as p
            where b.backfill_id = %(id)s and b.status = 'running'
            """,
            {"id": backfill_id},
        )
        close_request(cursor, backfill_id)
        cursor.execute(
            "select status from metadata.backfills where backfill_id = %s", (backfill_id,)
        )
        row: Any = cursor.fetchone()
        return str(row["status"])


def refuse(settings: Settings, backfill_id: int, error: str) -> None:
    """No week can be tried: it ends as failed at once, and its weeks wait for a resume."""
    with ledger(settings) as cursor:
        cursor.execute(
            "update metadata.backfills set status = 'failed', finished_at = clock_timestamp(), "
            "error_message = %s where backfill_id = %s and status in ('pending', 'running')",
            (error[:_ERROR_CHARACTERS], backfill_id),
        )
        close_request(cursor, backfill_id)


def close_request(cursor: Cursor, backfill_id: int) -> None:
    """What asked for a backfill ends as the backfill did."""
    cursor.execute(
        "update metadata.job_requests as r set status = b.status, run_id = b.run_id, "
        "finished_at = b.finished_at, error_message = b.error_message "
        "from metadata.backfills as b "
        "where b.backfill_id = %s and r.request_id = b.request_id and b.finished_at is not null",
        (backfill_id,),
    )


def cancel_if_asked(settings: Settings, backfill_id: int, run_id: int) -> None:
    """A run that a person cancelled takes its backfill with it; one that was stopped does not."""
    with ledger(settings) as cursor:
        cursor.execute(
            "update metadata.backfills set status = 'cancelled', finished_at = clock_timestamp() "
            "where backfill_id = %s and status in ('pending', 'running') and exists (select from "
            "metadata.refresh_log where run_id = %s and cancel_requested_at is not null)",
            (backfill_id, run_id),
        )
        close_request(cursor, backfill_id)
