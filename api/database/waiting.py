"""Waits for PostgreSQL with a deadline of our own: a server that stands still answers nothing."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ
from psycopg2.extensions import connection as Connection

_SLICE_SECONDS = 0.25
_FULL = ("too many clients", "too many connections", "connection slots are reserved")


class SilentServerError(Exception):
    """No answer came in time, or nobody waits for it any more."""


def begin(dsn: str, application_name: str) -> Connection:
    """A connection that is being made; every call on it returns at once."""
    connection: Connection = psycopg2.connect(
        dsn,
        application_name=application_name,
        client_encoding="UTF8",
        keepalives_idle=30,
        keepalives_interval=10,
        keepalives_count=3,
        async_=True,
    )
    return connection


def finish(
    connection: Connection, deadline: float, keep_on: Callable[[], bool] = lambda: True
) -> None:
    """Until what was begun is done; SilentServerError at the deadline, of the monotonic clock.

    `keep_on` is asked a few times a second, and ends the wait by saying no.
    """
    waiting: Any = None
    while (state := connection.poll()) != POLL_OK:
        left = deadline - time.monotonic()
        if left <= 0 or (waiting is not None and not keep_on()):
            raise SilentServerError
        if waiting is None:
            waiting = select.poll()
        waiting.register(connection, select.POLLIN if state == POLL_READ else select.POLLOUT)
        waiting.poll(min(left, _SLICE_SECONDS) * 1000)


def is_full(error: psycopg2.Error) -> bool:
    """Whether the server is there, but gives no further connection; it says so in words alone."""
    return any(words in str(error) for words in _FULL)


def ask(connection: Connection, statement: str, deadline: float) -> object:
    """The first field of the answer."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        finish(connection, deadline)
        row = cursor.fetchone()
    assert row is not None
    return row[0]


def is_readable(connection: Connection, seconds: float) -> bool:
    """Whether the server says something of itself within so many seconds."""
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))
