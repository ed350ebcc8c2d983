"""Runs and their rows in metadata.refresh_log: opened before the work and closed once after it.

A run holds a connection of its own, and on it the lock that says that it lives. A thread beats on
it every second, and so learns whether somebody cancelled the run or took its place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import psycopg2
import structlog
from psycopg2.extensions import connection as Connection

from runner.runs import spool
from runner.runs.ending import Ending, close_rows, storable
from runner.runs.opening import Opened, hold, open_rows, release
from warehouse.database import connect
from warehouse.errors import OversightError
from warehouse.retries import retrying
from warehouse.settings import Settings

BEAT_SECONDS = 1.0
_CLOSE_SECONDS = 60.0
_APPLICATION = "oversight run log"

log = structlog.get_logger("oversight.runs")


class RunCancelled(OversightError):  # noqa: N818 - it is no error of anything
    """The run was cancelled, or another runner closed it as abandoned and took its place."""


class Run:
    """One run under way, of one job or of several that one dbt does.

    `run_ids` are its rows by job; `skipped` those of jobs that are still running elsewhere.
    """

    def __init__(self, settings: Settings, connection: Connection, opened: Opened) -> None:
        self.settings = settings
        self.run_ids = opened.run_ids
        self.skipped = opened.skipped
        self._instance_id = opened.instance_id
        self.rows_affected: int | None = None
        self.dbt_version: str | None = None
        self.attempts = 1
        self._connection = connection
        self._over = threading.Event()
        self._reason = ""
        self._callbacks: list[Callable[[], None]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, name="heartbeat", daemon=True)
        if self.run_ids:
            self._thread.start()

    @property
    def run_id(self) -> int:
        """The row that dbt's counts are kept under: the first one's."""
        return next(iter((self.run_ids or self.skipped).values()))

    @property
    def job_name(self) -> str:
        """The first job."""
        return next(iter(self.run_ids or self.skipped))

    @property
    def is_skipped(self) -> bool:
        """Whether the job is still running elsewhere, and so nothing is to be done here."""
        return not self.run_ids

    def check(self) -> None:
        """Raise RunCancelled when somebody cancelled the run or closed it as abandoned."""
        if self._over.is_set():
            raise RunCancelled(self._reason)

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than until the run is over; then raise RunCancelled."""
        self._over.wait(seconds)
        self.check()

    def on_over(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, from another thread, as soon as the run is over."""
        self._callbacks.append(callback)
        if self._over.is_set():
            callback()

    def cancel(self, reason: str) -> None:
        """End the run as cancelled; what it does notices by itself."""
        if not self._over.is_set():
            self._reason = reason
            self._over.set()
            for callback in self._callbacks:
                callback()

    def close(self, status: str, error: str | None) -> Ending:
        """Write the one final state; when the database stays away, into the spool."""
        self._stop.set()
        self._thread.join(timeout=15)
        ending = Ending(
            run_ids=self.run_ids,
            instance_id=self._instance_id,
            status=status,
            error=None if error is None else storable(error),
            rows_affected=self.rows_affected,
            dbt_version=self.dbt_version,
            attempts=self.attempts,
        )
        try:
            retrying(seconds=_CLOSE_SECONDS)(self._write, ending)
        except (psycopg2.Error, OversightError) as problem:
            self._keep(ending, problem)
        finally:
            with suppress(psycopg2.Error):
                self._connection.close()
        log.info("run", job=", ".join(self.run_ids), run_id=self.run_id, status=status, error=error)
        return ending

    def _keep(self, ending: Ending, problem: Exception) -> None:
        try:
            path = spool.keep(self.settings, ending)
        except OSError as error:
            log.error("the end of a run is lost", run_id=self.run_id, error=str(error))
            return
        log.error("the end of a run is kept on disk", path=str(path), error=str(problem))

    def _write(self, ending: Ending) -> None:
        if self._connection.closed or self._thread.is_alive():
            self._connection = connect(
                self.settings, autocommit=True, application_name=_APPLICATION
            )
        try:
            # Before the row is closed: whoever sees its end may start the job again at once.
            release(self._connection, self.run_ids)
            close_rows(self._connection, ending)
        except psycopg2.Error:
            self._connection.close()
            raise

    def _live(self) -> None:
        """Beat until told to stop; a lost connection is made again, with the locks on it."""
        while not self._stop.wait(BEAT_SECONDS):
            try:
                if self._connection.closed:
                    self._connection = connect(
                        self.settings, autocommit=True, application_name=_APPLICATION
                    )
                    self._beat()
                    if not self._over.is_set():
                        hold(self._connection, self.run_ids)
                self._beat()
            except (psycopg2.Error, OversightError) as error:
                log.warning("no heartbeat", run_id=self.run_id, error=str(error).strip())
                with suppress(psycopg2.Error):
                    self._connection.close()

    def _beat(self) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(
                "update metadata.refresh_log set heartbeat_at = clock_timestamp() "
                "where run_id = any(%s) and status = 'running' "
                "returning cancel_requested_at is not null",
                (list(self.run_ids.values()),),
            )
            found = [bool(row[0]) for row in cursor.fetchall()]
        if len(found) < len(self.run_ids):
            self.cancel("another runner closed this run as abandoned and took its place")
        elif any(found):
            self.cancel("cancelled on request")


@contextmanager
def logged_run(settings: Settings, job_name: str) -> Iterator[Run]:
    """A row before the work, a heartbeat during it, and exactly one final state after it.

    While the same job runs elsewhere the row says `skipped_overlap`, and `is_skipped` is true: do
    nothing then. Errors are written into the row and raised on.
    """
    with logged_runs(settings, {job_name: None}) as run:
        yield run


@contextmanager
def logged_runs(
    settings: Settings, slots: dict[str, datetime | None], *, epoch: int | None = None
) -> Iterator[Run]:
    """The same for several jobs that are done together; those that still run are skipped.

    `slots` says for when each is due, None when it is not by the schedule. Raises SlotTaken when a
    slot has a row, Superseded when the leadership of `epoch` is over.
    """
    connection = connect(settings, autocommit=True, application_name=_APPLICATION)
    try:
        spool.write_back(settings, connection)
        run = Run(settings, connection, open_rows(connection, slots, epoch=epoch))
    except BaseException:
        connection.close()
        raise
    if run.is_skipped:
        connection.close()
        yield run
        return
    try:
        yield run
    except RunCancelled as error:
        run.close("cancelled", str(error))
        raise
    except KeyboardInterrupt:
        run.close("cancelled", "the run was interrupted")
        raise
    except BaseException as error:
        run.close("failed", str(error) or type(error).__name__)
        raise
    else:
        run.close("success", None)
