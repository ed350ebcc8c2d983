"""Which of several runners leads: an advisory lock on a connection of its own, and an epoch.

The lock goes with its process, however that ends. A leader that is frozen keeps its lock, so the
others end its connection when it has not beaten for a while; what it does after it woke up carries
an epoch that is over, and is refused.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from datetime import datetime

import psycopg2
import structlog
from psycopg2.extensions import connection as Connection

from warehouse.database import connect
from warehouse.errors import OversightError
from warehouse.settings import Settings

LEASE_SECONDS = 10
"""A leader that has not beaten for this long is taken to be frozen."""
_LOCK = "hashtextextended('oversight leader', 0)"

log = structlog.get_logger("oversight.schedule")


class Leadership:
    """One runner's part in it; `beat` once a second, from one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection: Connection | None = None
        self.epoch: int | None = None
        self.name = f"{socket.gethostname()} pid {os.getpid()}"

    def beat(self) -> datetime | None:
        """Lead or go on leading: the database's clock while this runner leads, None while not.

        Never raises: without a database nobody leads.
        """
        try:
            return self._hold() if self.epoch is not None else self._take()
        except (psycopg2.Error, OversightError) as error:
            log.warning("no database", leads=self.epoch is not None, error=str(error).strip())
            self.resign()
            return None

    def resign(self) -> None:
        """Give up the lead, so that another can take it at once."""
        if self.epoch is not None:
            log.warning("leads no more", epoch=self.epoch)
        self.epoch = None
        if self._connection is not None:
            with suppress(psycopg2.Error):
                self._connection.close()
            self._connection = None

    def _hold(self) -> datetime | None:
        assert self._connection is not None
        with self._connection.cursor() as cursor:
            cursor.execute(
                "update metadata.leadership set heartbeat_at = clock_timestamp() "
                "where epoch = %s and backend_pid = pg_backend_pid() returning heartbeat_at",
                (self.epoch,),
            )
            row = cursor.fetchone()
        if row is None:
            self.resign()
            return None
        return _moment(row[0])

    def _take(self) -> datetime | None:
        if self._connection is None:
            self._connection = connect(
                self._settings, autocommit=True, application_name="oversight leader"
            )
        with self._connection.cursor() as cursor:
            cursor.execute(f"select pg_try_advisory_lock({_LOCK})")
            row = cursor.fetchone()
            if row is None or not row[0]:
                self._end_frozen()
                return None
            cursor.execute(
                "insert into metadata.leadership as l "
                "(epoch, runner, backend_pid, taken_at, heartbeat_at) "
                "values (1, %s, pg_backend_pid(), clock_timestamp(), clock_timestamp()) "
                "on conflict (is_only) do update set epoch = l.epoch + 1, "
                "runner = excluded.runner, backend_pid = excluded.backend_pid, "
                "taken_at = excluded.taken_at, heartbeat_at = excluded.heartbeat_at "
                "returning epoch, heartbeat_at",
                (self.name,),
            )
            row = cursor.fetchone()
        assert row is not None
        self.epoch = int(row[0])
        log.info("leads", epoch=self.epoch, runner=self.name)
        return _moment(row[1])

    def _end_frozen(self) -> None:
        """End the connection of a leader without a heartbeat, if it still holds the lock."""
        assert self._connection is not None
        with self._connection.cursor() as cursor:
            cursor.execute(
                f"""
                select l.runner, pg_terminate_backend(l.backend_pid)
                from metadata.leadership as l
                join pg_locks as k on k.pid = l.backend_pid and k.locktype = 'advisory'
                where
                    l.heartbeat_at < clock_timestamp() - make_interval(secs => {LEASE_SECONDS})
                    and (k.classid::bigint << 32 | k.objid::bigint) = {_LOCK}
                    and k.objsubid = 1 and k.granted
                """
            )
            for runner, _ in cursor.fetchall():
                log.warning("a frozen leader was ended", runner=runner)


def _moment(value: object) -> datetime:
    assert isinstance(value, datetime)
    return value
