"""Connections of one worker process: nobody waits beyond a deadline, for one or for its answer.

One retry when the server is gone; while it is away all are refused at once.
"""

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

from api.database import waiting
from api.database.circuit import Circuit
from api.database.prepared import REFUSALS, Call, Prepared
from api.problems import ProblemError, unavailable
from api.watching import trace
from api.watching.metrics import Metrics

CONNECT_SECONDS = 5.0
SUSPICIOUS_SECONDS = 2.0
STALLED_SECONDS = 1.0
Row = tuple[Any, ...]
Ask = Callable[[Composable | str], list[Row]]
T = TypeVar("T")


class _GoneError(Exception):
    """The server refused, or ended, the connection."""


class Pool:
    """At most `size` connections; whoever waits longer than `wait_seconds` gets a 503.

    `read_seconds` is how long one message may take at most: a little longer than the statement
    timeout that it sets, which a server that stands still does not keep.
    """

    def __init__(
        self,
        dsn: str,
        metrics: Metrics,
        *,
        size: int,
        wait_seconds: float,
        read_seconds: float,
    ) -> None:
        self._dsn = dsn
        self._metrics = metrics
        self._size = size
        self._read_seconds = read_seconds
        self._moved_at = 0.0
        metrics.pool_size.set(size)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._prepared = Prepared()
        self._pool = QueuePool(
            cast(Any, self._connect),
            pool_size=size,
            max_overflow=0,
            timeout=wait_seconds,
            reset_on_return=None,
            use_lifo=True,
        )
        self.circuit = Circuit(dsn, on_return=self._renew)

    def read(self, message: Composable | str | Call) -> Row | None:
        """Send one message of statements and return the first row of its last statement.

        On an autocommit connection the statements of a message are one transaction, so that
        `set local` reaches the last of them. The ids of the request stand before it, and its time,
        waiting included, counts as the request's time in the database. Raises ProblemError (503)
        when the database is away, busy or takes too long.
        """
        if isinstance(message, Call):
            return self._call(message)
        return self._twice(lambda driver, comment: _first(self._rows(driver, message, comment)))

    def in_transaction(self, work: Callable[[Ask], T]) -> T:
        """What `work` makes of the answers to its messages, all of them in one transaction.

        `work` begins it by its first message, is called again when the connection was dead, and
        whatever happens the transaction is over afterwards. Raises as `read` does.
        """

        def attempt(driver: Any, comment: str) -> T:
            try:
                return work(lambda message: self._rows(driver, message, comment))
            finally:
                if not (driver.closed or driver.isexecuting()):
                    self._rows(driver, "rollback", "")

        return self._twice(attempt)

    def _call(self, call: Call) -> Row | None:
        def attempt(driver: Any, comment: str) -> Row | None:
            with self._prepared.sending(call, driver) as text:
                return _first(self._rows(driver, text, comment))

        if self._prepared.is_possible:
            try:
                return self._twice(attempt)
            except REFUSALS:
                self._prepared.give_up()
        return self.read(call.plain())

    def close(self) -> None:
        """Close idle connections."""
        self._pool.dispose()

    def _twice(self, attempt: Callable[[Any, str], T]) -> T:
        """Do something with a connection, once more if it was dead; its time is the request's."""
        here = trace.current.get()
        comment = here.sql_comment() if here else ""
        started = time.perf_counter()
        if self.circuit.is_open:
            self.circuit.suspect()
            raise _away()
        pool = self._current()
        try:
            try:
                with self._lent(pool) as driver:
                    return attempt(driver, comment)
            except _GoneError:
                # Every idle connection of a restarted server is dead; a read can be repeated.
                self._renew(pool)
            with self._lent(self._current()) as driver:
                return attempt(driver, comment)
        except waiting.SilentServerError as error:
            self.circuit.suspect()
            raise _away() from error
        except _GoneError as error:
            self.circuit.open()
            raise _away() from error
        finally:
            if here:
                here.db_seconds += time.perf_counter() - started

    @contextmanager
    def _lent(self, pool: QueuePool) -> Iterator[Any]:
        """A connection; what goes wrong on it is a problem (503), _GoneError or a defect."""
        fairy = self._connection(pool)
        self._metrics.pool_in_use.inc()
        driver: Any = fairy.dbapi_connection
        try:
            yield driver
        except (psycopg2.errors.QueryCanceled, psycopg2.errors.LockNotAvailable) as error:
            raise unavailable(
                "timeout",
                "the database took too long; ask for less or try again",
                retry_after_seconds=5,
            ) from error
        except waiting.SilentServerError:
            fairy.invalidate()
            raise
        except psycopg2.Error as error:
            if driver.closed or _is_end(error):
                fairy.invalidate()
                raise _GoneError from error
            raise
        finally:
            if not driver.closed and driver.isexecuting():
                fairy.invalidate()  # By a defect: nobody waited for the answer.
            fairy.close()
            self._moved_at = time.monotonic()
            self._metrics.pool_in_use.dec()

    def _connection(self, pool: QueuePool) -> Any:
        """A connection of the pool; where none comes back for long, nobody else waits for one."""
        if pool.checkedout() < self._size:
            self._moved_at = time.monotonic()
        elif time.monotonic() - self._moved_at > STALLED_SECONDS:
            raise _busy()
        self._metrics.pool_waiting.inc()
        try:
            return pool.connect()
        except PoolTimeoutError as error:
            raise _busy() from error
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            if waiting.is_full(error):
                raise _busy() from error
            raise _GoneError from error
        finally:
            self._metrics.pool_waiting.dec()

    def _rows(self, driver: Any, message: Composable | str, comment: str) -> list[Row]:
        with driver.cursor() as cursor:
            text = message if isinstance(message, str) else message.as_string(driver)
            cursor.execute(comment + text)
            self._finish(driver, self._read_seconds)
            return list(cursor.fetchall()) if cursor.description else []

    def _finish(self, driver: Connection, seconds: float) -> None:
        """Wait for the answer, but not for a server that turns out to be away."""
        started = time.monotonic()

        def keep_on() -> bool:
            if time.monotonic() - started > SUSPICIOUS_SECONDS:
                self.circuit.suspect()
            return not self.circuit.is_open

        try:
            waiting.finish(driver, started + seconds, keep_on)
        except waiting.SilentServerError:
            driver.close()
            raise

    def _connect(self) -> Connection:
        connection = waiting.begin(self._dsn, "oversight-api")
        self._finish(connection, CONNECT_SECONDS)
        return connection

    def _current(self) -> QueuePool:
        """The pool of this process: a forked child must not speak on its parent's connections."""
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._pool = _recreate(self._pool)
                    self._pid = os.getpid()
        return self._pool

    def _renew(self, broken: QueuePool | None = None) -> None:
        """A new pool in place of one with dead connections, or of the one that there is."""
        with self._lock:
            old = broken or self._pool
            if self._pool is old:
                self._pool = _recreate(old)
        old.dispose()


def _is_end(error: psycopg2.Error) -> bool:
    """Whether the server ended the connection, in its own words (57P..) or without any."""
    if error.pgcode is None:
        return isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))
    return error.pgcode.startswith("57P")


def _away() -> ProblemError:
    return unavailable(
        "database-unavailable",
        "the database cannot be reached; try again",
        retry_after_seconds=5,
    )


def _busy() -> ProblemError:
    return unavailable(
        "busy", "all database connections are in use; try again", retry_after_seconds=1
    )


def _first(rows: list[Row]) -> Row | None:
    return rows[0] if rows else None


def _recreate(pool: QueuePool) -> QueuePool:
    recreate: Callable[[], QueuePool] = pool.recreate
    return recreate()
