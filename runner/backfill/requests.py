"""What people and programs ask of backfills: to be made, paused, resumed, cancelled.

A backfill and its row in metadata.job_requests are made together; a key makes the same request the
same backfill, however often it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any

from psycopg2.extensions import connection as Connection
from psycopg2.extras import RealDictCursor as Cursor

from runner.backfill.ledger import BackfillError, close_request, ledger
from runner.backfill.turn import is_free
from runner.backfill.weeks import label, mondays, parse_week
from warehouse.catalogue import Catalogue, deployed
from warehouse.settings import Settings

MAX_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Requested:
    """The backfill that a request stands for; not `is_new` when it was asked for before."""

    backfill_id: int
    is_new: bool


@dataclass(frozen=True, kw_only=True)
class _Range:
    engine: str
    weeks: list[date]
    most: int


def request_backfill(
    settings: Settings,
    engine: str,
    first: date,
    last: date,
    *,
    again: bool = False,
    is_taken: bool = False,
    today: date | None = None,
) -> Requested:
    """Ask for the weeks from the Monday `first` to the Monday `last`.

    The same weeks of the same engine are the same backfill, unless that has ended and `again` is
    said. With `is_taken` the caller runs it, and no daemon takes it up while the caller lives.
    Raises BackfillError or WeekError for what can't be done.
    """
    with ledger(settings) as cursor:
        asked = _check(cursor.connection, engine, first, last, today)
        key = f"backfill {engine} {label(first)}..{label(last)}"
        if again:
            key = _key_of_another(cursor, key)
        arguments = {"engine": engine, "from": label(first), "to": label(last)}
        cursor.execute(
            "insert into metadata.job_requests (kind, arguments, idempotency_key, status) "
            "values ('backfill', jsonb_build_object('engine', %(engine)s, 'from', %(from)s, "
            "'to', %(to)s), %(key)s, %(status)s) on conflict (idempotency_key) do nothing",
            {**arguments, "key": key, "status": "running" if is_taken else "pending"},
        )
        cursor.execute(
            "select request_id from metadata.job_requests where idempotency_key = %s", (key,)
        )
        row: Any = cursor.fetchone()
        return _make(cursor, row["request_id"], asked)


def backfill_of(settings: Settings, request_id: int, arguments: Mapping[str, Any]) -> int:
    """The backfill that a row of metadata.job_requests asks for, made when it is not there yet.

    `arguments` holds backfill_id, or engine, from and to.
    """
    if "backfill_id" in arguments:
        return int(arguments["backfill_id"])
    missing = [name for name in ("engine", "from", "to") if name not in arguments]
    if missing:
        raise BackfillError(
            f"request {request_id} lacks {', '.join(missing)}; a backfill is asked for with "
            'arguments such as {"engine": "reddit_ads", "from": "2026-W01", "to": "2026-W05"}'
        )
    engine = str(arguments["engine"])
    first, last = (parse_week(str(arguments[name])) for name in ("from", "to"))
    with ledger(settings) as cursor:
        cursor.execute(
            "select backfill_id from metadata.backfills where request_id = %s", (request_id,)
        )
        row: Any = cursor.fetchone()
        if row is not None:
            return int(row["backfill_id"])
        asked = _check(cursor.connection, engine, first, last, None)
        return _make(cursor, request_id, asked).backfill_id


def pause(settings: Settings, backfill_id: int) -> None:
    """Stop after the week under way; nothing is done until it is resumed."""
    with ledger(settings) as cursor:
        status = _status(cursor, backfill_id)
        if status not in ("pending", "running", "paused"):
            raise BackfillError(f"backfill {backfill_id} is {status}; there is nothing to pause")
        _set(cursor, backfill_id, "paused")


def cancel(settings: Settings, backfill_id: int) -> None:
    """End it for good; the week under way is broken off where that can be done."""
    with ledger(settings) as cursor:
        status = _status(cursor, backfill_id)
        if status in ("done", "failed"):
            raise BackfillError(f"backfill {backfill_id} is {status}; there is nothing to cancel")
        if status == "cancelled":
            return
        _set(cursor, backfill_id, "cancelled")
        close_request(cursor, backfill_id)
        cursor.execute(
            "update metadata.refresh_log as l set cancel_requested_at = clock_timestamp() "
            "from metadata.backfills as b "
            "where b.backfill_id = %s and l.run_id = b.run_id and l.status = 'running'",
            (backfill_id,),
        )


def resume(
    settings: Settings, backfill_id: int, *, only_failed: bool = False, is_taken: bool = False
) -> None:
    """Go on with the weeks that are left and those that failed, or with the failed ones alone.

    Each failed week gets as many attempts as at first. One whose process died is taken up, too.
    """
    with ledger(settings) as cursor:
        status = _status(cursor, backfill_id)
        cursor.execute(
            "select engine, max_attempts from metadata.backfills where backfill_id = %s",
            (backfill_id,),
        )
        row: Any = cursor.fetchone()
        if status in ("done", "cancelled"):
            raise BackfillError(
                f"backfill {backfill_id} is {status}; ask for its weeks with --again"
            )
        if status == "running" and not is_free(settings, row["engine"]):
            raise BackfillError(f"backfill {backfill_id} is running; see `oversight backfill list`")
        cursor.execute(
            "update metadata.backfill_weeks set status = 'pending', finished_at = null, "
            "last_attempt = attempt + %s where backfill_id = %s and status = 'failed'",
            (row["max_attempts"], backfill_id),
        )
        if only_failed and cursor.rowcount == 0:
            raise BackfillError(f"backfill {backfill_id} has no week that failed")
        cursor.execute(
            "update metadata.backfills set status = 'pending', finished_at = null, "
            "error_message = null, is_only_failed = %s where backfill_id = %s",
            (only_failed, backfill_id),
        )
        _ask_again(cursor, backfill_id, "running" if is_taken else "pending")


def revive(connection: Connection) -> list[int]:
    """Ask again for the backfills whose run ended before they did; gives back their ids.

    That is so after a process died, was stopped, or lost the database. One whose run failed waits
    for a minute, as it may fail again; one that has no run, too, as that may be about to begin.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            update metadata.job_requests as r
            set status = 'pending', finished_at = null, error_message = null
            from metadata.backfills as b
            left join metadata.refresh_log as l on l.run_id = b.run_id
            where
                r.request_id = b.request_id and r.status <> 'pending'
                and b.status in ('pending', 'running')
                and case
                    when l.run_id is null
                        then r.finished_at is not null
                        or r.requested_at < clock_timestamp() - interval '1 minute'
                        and 'backfill ' || b.backfill_id not in (
                            select job_name from metadata.refresh_log where status = 'running'
                        )
                    when l.status in ('success', 'failed')
                        then l.finished_at < clock_timestamp() - interval '1 minute'
                    else l.status <> 'running'
                end
            returning b.backfill_id
            """
        )
        return [int(row[0]) for row in cursor.fetchall()]


def _check(
    connection: Connection, engine: str, first: date, last: date, today: date | None
) -> _Range:
    catalogue = deployed(connection)
    check_engine(catalogue, engine)
    today = today or datetime.now(timezone.utc).date()
    weeks = mondays(first, last, most=catalogue.backfill_max_weeks, today=today)
    closed = catalogue.closed_before
    if closed is not None and first < date.fromisoformat(closed):
        raise BackfillError(
            f"the weeks before {label(date.fromisoformat(closed))} are closed (closed_before in "
            "dbt_project.yml): their records would be rejected; begin with that week"
        )
    return _Range(engine=engine, weeks=weeks, most=catalogue.backfill_max_weeks)


def check_engine(catalogue: Catalogue, engine: str) -> None:
    """Raise BackfillError unless the engine can be asked for the days of a week."""
    if engine not in catalogue.engines:
        known = ", ".join(catalogue.engines) or "none"
        raise BackfillError(f"engine {engine} is not declared; declared are: {known}")
    endpoints = [table.endpoint for table in catalogue.engine_tables(engine) if table.endpoint]
    if not any(endpoint.window for endpoint in endpoints):
        lack = "its endpoints take no window" if endpoints else "it has no endpoint"
        raise BackfillError(
            f"engine {engine} can't be asked for old weeks: {lack} "
            f"(models/staging/{engine}); get the extracts of those weeks and land them with "
            f"`oversight load {engine} --path DIR`"
        )


def _key_of_another(cursor: Cursor, key: str) -> str:
    """The key after the last backfill under this key that has ended; its own while it goes on."""
    cursor.execute(
        "select b.backfill_id, b.finished_at is not null as is_ended, r.idempotency_key as key "
        "from metadata.backfills as b join metadata.job_requests as r using (request_id) "
        "where r.idempotency_key = %(key)s or starts_with(r.idempotency_key, %(key)s || ' after ') "
        "order by b.backfill_id desc limit 1",
        {"key": key},
    )
    row: Any = cursor.fetchone()
    if row is None:
        return key
    return f"{key} after {row['backfill_id']}" if row["is_ended"] else str(row["key"])


def _make(cursor: Cursor, request_id: int, asked: _Range) -> Requested:
    cursor.execute(
        "insert into metadata.backfills "
        "(engine, first_week, last_week, max_weeks, max_attempts, request_id) "
        "values (%s, %s, %s, %s, %s, %s) on conflict (request_id) do nothing returning backfill_id",
        (asked.engine, asked.weeks[0], asked.weeks[-1], asked.most, MAX_ATTEMPTS, request_id),
    )
    is_new = cursor.rowcount == 1
    if not is_new:
        cursor.execute(
            "select backfill_id from metadata.backfills where request_id = %s", (request_id,)
        )
    row: Any = cursor.fetchone()
    if is_new:
        cursor.execute(
            "insert into metadata.backfill_weeks (backfill_id, week, last_attempt) "
            "select %s, week, %s from unnest(%s::date[]) as t (week)",
            (row["backfill_id"], MAX_ATTEMPTS, asked.weeks),
        )
    return Requested(backfill_id=int(row["backfill_id"]), is_new=is_new)


def _status(cursor: Cursor, backfill_id: int) -> str:
    cursor.execute(
        "select status from metadata.backfills where backfill_id = %s for update", (backfill_id,)
    )
    row: Any = cursor.fetchone()
    if row is None:
        raise BackfillError(f"there is no backfill {backfill_id}; see `oversight backfill list`")
    return str(row["status"])


def _set(cursor: Cursor, backfill_id: int, status: str) -> None:
    cursor.execute(
        "update metadata.backfills set status = %(status)s, "
        "finished_at = case when %(status)s = 'cancelled' then clock_timestamp() end "
        "where backfill_id = %(id)s",
        {"status": status, "id": backfill_id},
    )


def _ask_again(cursor: Cursor, backfill_id: int, status: str) -> None:
    cursor.execute(
        "update metadata.job_requests as r set status = %s, finished_at = null, "
        "error_message = null from metadata.backfills as b "
        "where b.backfill_id = %s and r.request_id = b.request_id returning r.request_id",
        (status, backfill_id),
    )
    row: Any = cursor.fetchone()
    if status == "pending":
        cursor.execute("select pg_notify('oversight_requests', %s)", (str(row["request_id"]),))
