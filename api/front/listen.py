"""Hears of changes: one thread a process, with a connection of its own, so that answers end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog
from psycopg2.extensions import POLL_OK
from psycopg2.extensions import connection as Connection

from api.database import waiting
from api.problems import ApiError

if TYPE_CHECKING:
    from api.access.auth import Authenticator
    from api.database.circuit import Circuit
    from api.front.answers import Answers
    from api.reporting.deployed import DeployedCatalogue

DATA = "oversight_data"
PRINCIPALS = "oversight_principals"
EVERYTHING = ""
PROBE_SECONDS = 1.0
PATIENCE_SECONDS = 2.0
_RETRY_SECONDS = 0.5
_HELLO = f"listen {DATA}; listen {PRINCIPALS}; select pg_backend_pid()"

log = structlog.get_logger()


class Listener:
    """Passes on what the database tells: `oversight_data` names a mart, or nothing for all.

    While nothing is heard, not even the answer to a probe, the answers do not count; when the
    connection is there again they are forgotten, since what changed meanwhile was not told.
    """

    def __init__(
        self,
        dsn: str,
        *,
        answers: Answers,
        catalogue: DeployedCatalogue,
        authenticator: Authenticator,
        circuit: Circuit,
    ) -> None:
        self._dsn = dsn
        self._circuit = circuit
        self.answers = answers
        self._catalogue = catalogue
        self._authenticator = authenticator
        self._is_stopping = threading.Event()
        self._is_loss_told = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen in the background, and come back after every loss."""
        self._thread = threading.Thread(target=self._run, name="listen", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and its connection."""
        self._is_stopping.set()
        if self._thread is not None:
            self._thread.join(PROBE_SECONDS + PATIENCE_SECONDS + 1)

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            try:
                self._listen()
            except Exception as error:
                # Whatever it is, nothing may end this thread: answers would never be kept again.
                self._circuit.suspect()
                if not self._is_loss_told:
                    log.warning("not listening: answers are not kept", error=str(error).strip())
                    self._is_loss_told = True
            finally:
                self.answers.lost()
            self._is_stopping.wait(_RETRY_SECONDS)

    def _listen(self) -> None:
        connection = waiting.begin(self._dsn, "oversight-api-listen")
        try:
            waiting.finish(connection, _soon())
            self._begin(connection)
            log.info("listening")
            self._is_loss_told = False
            while not self._is_stopping.is_set():
                if not waiting.is_readable(connection, PROBE_SECONDS):
                    waiting.ask(connection, "select 1", _soon())
                elif connection.poll() != POLL_OK:
                    continue
                self._pass_on(connection)
        finally:
            connection.close()

    def _begin(self, connection: Connection) -> None:
        """From here on every change is told; what was known before may have changed unheard."""
        pid = waiting.ask(connection, _HELLO, _soon())
        if pid != connection.info.backend_pid:
            raise ApiError(
                "a pooler is between the API and its database, and may tell of no change; set"
                " OVERSIGHT_API_DIRECT_DATABASE_URL to the server's own address"
            )
        self._catalogue.forget()
        self._authenticator.forget()
        self.answers.forget()
        self.answers.heard()

    def _pass_on(self, connection: Connection) -> None:
        """What was told first, then that it is heard of."""
        heard, connection.notifies[:] = list(connection.notifies), []
        for notice in heard:
            if notice.channel == PRINCIPALS:
                self._authenticator.forget()
            elif notice.payload == EVERYTHING:
                self._catalogue.forget()
                self.answers.forget()
            else:
                self.answers.changed(notice.payload)
        if not self.answers.is_current:
            self.answers.forget()
        self.answers.heard()


def _soon() -> float:
    return time.monotonic() + PATIENCE_SECONDS
