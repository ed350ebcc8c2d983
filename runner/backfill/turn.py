"""Whose turn it is: one backfill of an engine at a time, and only so many over all.

A turn is two advisory locks on an idle connection of their own, so that they fall the moment their
process dies, whatever its other connections still do.
"""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType

import psycopg2
from psycopg2.extensions import connection as Connection

from warehouse.database import connect
from warehouse.errors import OversightError
from warehouse.settings import Settings

MAX_CONCURRENT = 2


class TurnLostError(OversightError):
    """The connection that held the turn is gone, and another process may have taken it."""


class Turn:
    """The right to work on an engine's backfill, until it is closed or its process dies.

    Its connection bears the run's name, so that it ends when the run is closed as abandoned: a
    process that froze does not hold the turn for ever.
    """

    def __init__(self, settings: Settings, engine: str, *, run_id: int | None = None) -> None:
        self._engine = engine
        name = "oversight backfill" if run_id is None else f"oversight run {run_id}"
        self._connection: Connection = connect(settings, autocommit=True, application_name=name)
        self._is_mine = False

    def __enter__(self) -> Turn:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(psycopg2.Error):
            self._connection.close()

    def take(self) -> bool:
        """Take it if it is free; False while another has the engine or all places are taken."""
        if self._is_mine:
            return True
        engine_lock = f"oversight backfill engine {self._engine}"
        if not self._lock(engine_lock):
            return False
        for place in range(MAX_CONCURRENT):
            if self._lock(f"oversight backfill place {place}"):
                self._is_mine = True
                return True
        self._ask("select pg_advisory_unlock(hashtextextended(%s, 0))", engine_lock)
        return False

    def check(self) -> None:
        """Raise TurnLostError when the locks fell, as they do with a restart of the server."""
        try:
            self._ask("select %s = 1", 1)
        except psycopg2.Error as error:
            raise TurnLostError(
                f"the connection that held the turn of {self._engine} is gone "
                f"({str(error).strip()}); the next call goes on where this one stopped"
            ) from error

    def _lock(self, name: str) -> bool:
        return self._ask("select pg_try_advisory_lock(hashtextextended(%s, 0))", name)

    def _ask(self, query: str, value: object) -> bool:
        with self._connection.cursor() as cursor:
            cursor.execute(query, (value,))
            row = cursor.fetchone()
            return bool(row and row[0])
