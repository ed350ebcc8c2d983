"""What others ask of the runner: rows of metadata.job_requests, taken by the leader one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2.extensions import connection as Connection

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

    A slot waits a moment, so that others of the same minute can be done together with it.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "select request_id, kind, arguments, scheduled_for from metadata.job_requests "
            "where status = 'pending' and (scheduled_for is null or "
            "requested_at < clock_timestamp() - interval '0.3 s') order by request_id"
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
    """Make pending again what a runner that died had taken, but not what this one is doing."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update metadata.job_requests set status = 'pending' "
            "where status = 'running' and request_id <> all(%s)",
            (but,),
        )
        return cursor.rowcount


def end(
    settings: Settings, request_id: int, status: str, *, run_id: int | None, error: str | None
) -> None:
    """Write how a request ended, with the run that did it."""
    retrying(seconds=_END_SECONDS)(_end, settings, request_id, status, run_id, error)


def _end(
    settings: Settings, request_id: int, status: str, run_id: int | None, error: str | None
) -> None:
    connection = connect(settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "update metadata.job_requests set status = %s, run_id = %s, error_message = %s, "
                "finished_at = clock_timestamp() where request_id = %s and status = 'running'",
                (status, run_id, error, request_id),
            )
    finally:
        connection.close()
