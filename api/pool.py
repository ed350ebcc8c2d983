"""Connections of one worker process: a deadline for the wait, one retry when the server is gone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import psycopg2
import psycopg2.errors
from psycopg2.extensions import connection as Connection
from psycopg2.sql import Composable
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from api import trace
from api.metrics import Metrics
from api.problems import unavailable

CONNECT_TIMEOUT_SECONDS = 5
Row = tuple[Any, ...]
Ask = Callable[[Composable | str], list[Row]]
T = TypeVar("T")


class _GoneError(Exception):
    """The server refused, or ended, the connection."""


class Pool:
    """At most `size` connections; whoever waits longer than `wait_seconds` gets a 503."""

    def __init__(self, dsn: str, metrics: Metrics, *, size: int, wait_seconds: float) -> None:
        self._dsn = dsn
        self._metrics = metrics
        metrics.pool_size.set(size)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._pool = QueuePool(
            cast(Any, self._connect),
            pool_size=size,
            max_overflow=0,
            timeout=wait_seconds,
            reset_on_return=None,
            use_lifo=True,
        )

    def read(self, message: Composable | str) -> Row | None:
        """Send one message of statements and return the first row of its last statement.

        On an autocommit connection the statements of a message are one transaction, so that
        `set local` reaches the last of them. The ids of the request stand before it, and its time,
        waiting included, counts as the request's time in the database. Raises ProblemError (503)
        when the database is away, busy or takes too long.
        """
        return self._twice(lambda driver, comment: _first(_rows(driver, message, comment)))

    def in_transaction(self, work: Callable[[Ask], T]) -> T:
        """What `work` makes of the answers to its messages, all of them in one transaction.

        `work` begins it by its first message, is called again when the connection was dead, and
        whatever happens the transaction is over afterwards. Raises as `read` does.
        """

        def attempt(driver: Any, comment: str) -> T:
            try:
                return work(lambda message: _rows(driver, message, comment))
            finally:
                if not driver.closed:
                    _rows(driver, "rollback", "")

        return self._twice(attempt)

    def close(self) -> None:
        """Close idle connections."""
        self._pool.dispose()

    def _twice(self, attempt: Callable[[Any, str], T]) -> T:
        """Do something with a connection, once more if it was dead; its time is the request's."""
        here = trace.current.get()
        comment = here.sql_comment() if here else ""
        started = time.perf_counter()
        pool = self._current()
        try:
            try:
                with _lent(pool, self._metrics) as driver:
                    return attempt(driver, comment)
            except _GoneError:
                # Every idle connection of a restarted server is dead; a read can be repeated.
                self._renew(pool)
            with _lent(self._current(), self._metrics) as driver:
                return attempt(driver, comment)
        except _GoneError as error:
            raise unavailable(
                "database-unavailable",
                "the database cannot be reached; try again",
                retry_after_seconds=5,
            ) from error
        finally:
            if here:
                here.db_seconds += time.perf_counter() - started

    def _connect(self) -> Connection:
        connection: Connection = psycopg2.connect(
            self._dsn,
            application_name="oversight-api",
            client_encoding="UTF8",
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
        )
        connection.autocommit = True
        return connection

    def _current(self) -> QueuePool:
        """The pool of this process: a forked child must not speak on its parent's connections."""
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._pool = _recreate(self._pool)
                    self._pid = os.getpid()
        return self._pool

    def _renew(self, broken: QueuePool) -> None:
        with self._lock:
            if self._pool is broken:
                self._pool = _recreate(broken)
        broken.dispose()


@contextmanager
def _lent(pool: QueuePool, metrics: Metrics) -> Iterator[Any]:
    """A connection; what goes wrong on it is a problem (503), _GoneError or a defect."""
    metrics.pool_waiting.inc()
    try:
        fairy = pool.connect()
    except PoolTimeoutError as error:
        raise unavailable(
            "busy", "all database connections are in use; try again", retry_after_seconds=1
        ) from error
    except psycopg2.OperationalError as error:
        raise _GoneError from error
    finally:
        metrics.pool_waiting.dec()
    metrics.pool_in_use.inc()
    driver: Any = fairy.dbapi_connection
    try:
        yield driver
    except (psycopg2.errors.QueryCanceled, psycopg2.errors.LockNotAvailable) as error:
        raise unavailable(
            "timeout",
            "the database took too long; ask for less or try again",
            retry_after_seconds=5,
        ) from error
    except psycopg2.Error as error:
        if driver.closed:
            fairy.invalidate()
            raise _GoneError from error
        raise
    finally:
        fairy.close()
        metrics.pool_in_use.dec()


def _rows(driver: Any, message: Composable | str, comment: str) -> list[Row]:
    with driver.cursor() as cursor:
        text = message if isinstance(message, str) else message.as_string(driver)
        cursor.execute(comment + text)
        return list(cursor.fetchall()) if cursor.description else []


def _first(rows: list[Row]) -> Row | None:
    return rows[0] if rows else None


def _recreate(pool: QueuePool) -> QueuePool:
    recreate: Callable[[], QueuePool] = pool.recreate
    return recreate()
