"""What others ask of the runner: rows of metadata.job_requests, taken by the leader."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2.extensions import connection as Connection

from runner.runs.ending import storable
from warehouse.database import connect
from warehouse.retries import retrying
from warehouse.settings import Settings

CHANNEL = "oversight_requests"
_END_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """One row that asks for something; `scheduled_for` is a slot when another clock keeps time."""

    request_id: int
    kind: str
    arguments: dict[str, Any]
    scheduled_for: datetime | None


def pending(connection: Connection) -> list[Request]:
    """What nobody has taken yet, oldest first.

    Slots wait until no more of them come, so that those of one minute can be done together.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "select request_id, kind, arguments, scheduled_for from metadata.job_requests "
            "where status = 'pending' and (scheduled_for is null or not exists ("
            "select from metadata.job_requests where status = 'pending' and scheduled_for "
            "is not null and requested_at > clock_timestamp() - interval '0.3 s')) "
            "order by request_id"
        )
        return [
            Request(request_id=row[0], kind=row[1], arguments=row[2], scheduled_for=row[3])
            for row in cursor.fetchall()
        ]


def together(requests: Iterable[Request]) -> list[list[Request]]:
    """What one run does: slots of different marts, and everything else by itself."""
    slots: dict[str, Request] = {}
    groups = []
    for request in requests:
        marts = request.arguments.get("marts", [])
        if request.kind == "refresh" and request.scheduled_for is not None and len(marts) == 1:
            # A second slot of the same mart has its turn after the first.
            slots.setdefault(str(marts[0]), request)
        else:
            groups.append([request])
    return [*groups, list(slots.values())] if slots else groups


def take(connection: Connection, request: Request, *, epoch: int) -> bool:
    """Mark a request as running; False when it was taken, cancelled, or another leads by now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update metadata.job_requests set status = 'running' "
            "where request_id = %s and status = 'pending' "
            "and exists (select from metadata.leadership where epoch = %s)",
            (request.request_id, epoch),
        )
        return cursor.rowcount == 1


def put_back(connection: Connection, *, but: list[int]) -> int:
    """Make pending again what a runner that died had taken, but not what this one is doing.

    Not backfills either: a command may be running one, and `revive` sees which run is over.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "update metadata.job_requests as r set status = 'pending' "
            "where r.status = 'running' and r.request_id <> all(%s) and not exists "
            "(select from metadata.backfills as b where b.request_id = r.request_id)",
            (but,),
        )
        return cursor.rowcount


@dataclass(frozen=True, kw_only=True)
class End:
    """How the work for a request ended, and the run that did it."""

    status: str
    run_id: int | None = None
    error: str | None = None


def end(settings: Settings, request: Request, end: End) -> None:
    """Write how a request ended; one that asked for a slot of a mart ends as that slot's row."""
    retrying(seconds=_END_SECONDS)(_end, settings, request, end)


def _end(settings: Settings, request: Request, end: End) -> None:
    marts = request.arguments.get("marts") or []
    connection = connect(settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                update metadata.job_requests as q
                set
                    status = coalesce(case l.status
                        when 'success' then 'done'
                        when 'failed' then 'failed'
                        when 'abandoned' then 'failed'
                        else case when l.run_id is not null then 'cancelled' end
                    end, %(status)s),
                    run_id = coalesce(l.run_id, %(run_id)s),
                    error_message = case
                        when l.status = 'success' then null
                        else coalesce(l.error_message, %(error)s)
                    end,
                    finished_at = clock_timestamp()
                from (select) as one
                left join metadata.refresh_log as l
                    on l.job_name = %(mart)s and l.scheduled_for = %(slot)s
                    and l.status <> 'running' and l.run_id >= coalesce(%(run_id)s, 0)
                where q.request_id = %(request_id)s and q.status = 'running'
                """,
                {
                    "status": end.status,
                    "run_id": end.run_id,
                    "error": None if end.error is None else storable(end.error),
                    "mart": str(marts[0]) if len(marts) == 1 else None,
                    "slot": request.scheduled_for if end.run_id is not None else None,
                    "request_id": request.request_id,
                },
            )
    finally:
        connection.close()
