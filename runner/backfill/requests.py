"""What people and programs ask of backfills: to be made, paused, resumed, cancelled.

The database does it (migration 0012), for the API as for these. A backfill and its row in
metadata.job_requests are made together; a key makes the same request the same backfill, however
often it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from psycopg2.extensions import connection as Connection
from psycopg2.extras import RealDictCursor as Cursor

from runner.backfill.ledger import ledger
from warehouse.backfills import MAX_ATTEMPTS, BackfillError, weeks_to_ask
from warehouse.catalogue import deployed
from warehouse.settings import Settings
from warehouse.weeks import label, parse_week


@dataclass(frozen=True, kw_only=True)
class Requested:
    """The backfill that a request stands for; not `is_new` when it was asked for before."""

    backfill_id: int
    is_new: bool


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
        catalogue = deployed(cursor.connection)
        weeks = weeks_to_ask(catalogue, engine, first, last, today=today)
        key = f"backfill {engine} {label(first)}..{label(last)}"
        if again:
            key = _key_of_another(cursor, key)
        cursor.execute(
            "select outcome, backfill_id from metadata.request_backfill("
            "%s, %s, %s, %s, %s, %s, null, session_user, %s, false)",
            (
                *(engine, weeks[0], weeks[-1], catalogue.backfill_max_weeks, MAX_ATTEMPTS, key),
                "running" if is_taken else "pending",
            ),
        )
        row: Any = cursor.fetchone()
        return Requested(backfill_id=row["backfill_id"], is_new=row["outcome"] == "accepted")


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
        catalogue = deployed(cursor.connection)
        weeks = weeks_to_ask(catalogue, engine, first, last)
        cursor.execute(
            "select metadata.make_backfill(%s, %s, %s, %s, %s, %s) as backfill_id",
            (
                *(request_id, engine, weeks[0], weeks[-1]),
                *(catalogue.backfill_max_weeks, MAX_ATTEMPTS),
            ),
        )
        made: Any = cursor.fetchone()
        return int(made["backfill_id"])


def pause(settings: Settings, backfill_id: int) -> None:
    """Stop after the week under way; nothing is done until it is resumed."""
    status = _change(settings, backfill_id, "select * from metadata.pause_backfill(%s)")
    if status != "ok":
        raise BackfillError(f"backfill {backfill_id} is {status}; there is nothing to pause")


def cancel(settings: Settings, backfill_id: int) -> None:
    """End it for good; the week under way is broken off where that can be done."""
    status = _change(settings, backfill_id, "select * from metadata.cancel_backfill(%s)")
    if status != "ok":
        raise BackfillError(f"backfill {backfill_id} is {status}; there is nothing to cancel")


def resume(
    settings: Settings, backfill_id: int, *, only_failed: bool = False, is_taken: bool = False
) -> None:
    """Go on with the weeks that are left and those that failed, or with the failed ones alone.

    Each failed week gets as many attempts as at first. One whose process died is taken up, too.
    """
    status = _change(
        settings,
        backfill_id,
        "select * from metadata.resume_backfill(%s, %s, %s)",
        *(only_failed, "running" if is_taken else "pending"),
    )
    if status in ("done", "cancelled"):
        raise BackfillError(f"backfill {backfill_id} is {status}; ask for its weeks with --again")
    if status == "running":
        raise BackfillError(f"backfill {backfill_id} is running; see `oversight backfill list`")
    if status == "no_failed_week":
        raise BackfillError(f"backfill {backfill_id} has no week that failed")


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


def _change(settings: Settings, backfill_id: int, statement: str, *arguments: object) -> str:
    """What the database says of a change; BackfillError when there is no such backfill."""
    with ledger(settings) as cursor:
        cursor.execute(statement, (backfill_id, *arguments))
        row: Any = cursor.fetchone()
    if row["outcome"] == "unknown":
        raise BackfillError(f"there is no backfill {backfill_id}; see `oversight backfill list`")
    return str(row["outcome"])
