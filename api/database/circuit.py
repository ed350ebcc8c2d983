"""Whether the server is away: then only one thread waits for it, trying until it is back."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable

import psycopg2
import structlog

from api.database import waiting

PATIENCE_SECONDS = 2.0
_RETRY_SECONDS = 0.25
_TRUST_SECONDS = 2.0

log = structlog.get_logger()


class Circuit:
    """Open while the server does not answer. `on_return` is called before it closes again."""

    def __init__(self, dsn: str, *, on_return: Callable[[], None]) -> None:
        self.is_open = False
        self._dsn = dsn
        self._on_return = on_return
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._answered_at = float("-inf")

    def open(self) -> None:
        """The server is away."""
        with self._lock:
            if not self.is_open:
                self.is_open = True
                log.warning("the database is away")
        self.suspect()

    def suspect(self) -> None:
        """Find out in the background whether it is, unless that was done just now."""
        with self._lock:
            is_trusted = time.monotonic() - self._answered_at < _TRUST_SECONDS
            is_trying = self._thread is not None and self._thread.is_alive()
            if is_trying or (is_trusted and not self.is_open):
                return
            # Held weakly: the thread ends with the app whose server never comes back.
            self._thread = threading.Thread(
                target=_try, args=(weakref.ref(self),), name="database-watch", daemon=True
            )
            self._thread.start()

    def attempt(self) -> bool:
        """Try once; whether there is an end to trying."""
        if not _answers(self._dsn):
            with self._lock:
                if not self.is_open:
                    self.is_open = True
                    log.warning("the database does not answer")
            return False
        if self.is_open:
            self._on_return()
        with self._lock:
            if self.is_open:
                self.is_open = False
                log.info("the database answers again")
            self._answered_at = time.monotonic()
        return True


def _try(circuit: weakref.ref[Circuit]) -> None:
    while (tried := circuit()) is not None and not tried.attempt():
        del tried
        time.sleep(_RETRY_SECONDS)


def _answers(dsn: str) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        connection = waiting.begin(dsn, "oversight-api-watch")
        try:
            waiting.finish(connection, deadline)
            waiting.ask(connection, "select 1", deadline)
        finally:
            connection.close()
    except psycopg2.Error as error:
        return waiting.is_full(error)
    except waiting.SilentServerError:
        return False
    return True
