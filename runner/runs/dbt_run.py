"""One run of dbt: how it ended, and how it is ended."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg2
import structlog

from warehouse.database import connect
from warehouse.errors import OversightError
from warehouse.settings import Settings

STUCK_SECONDS = 30
CONNECT_SECONDS = 120
"""dbt may have to parse the whole project before its first session."""
_NOTICE_SECONDS = 0.1
_GRACE_SECONDS = 1
_KILL_SECONDS = 2
_OUTPUT_CHARACTERS = 20_000
_TAIL_LINES = 15

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class DbtResult:
    """How a run ended; `failures` has "model: message" of each that did, or why there are none."""

    success: bool
    failures: tuple[str, ...]
    output: str
    """The end of what dbt printed."""
    dbt_version: str
    seconds: float


class DbtRun:
    """One run under way; `pid` is its process."""

    def __init__(self, settings: Settings, run_id: int | None, folder: Path) -> None:
        self.pid = 0
        self.folder = folder
        self._settings = settings
        self._session_name = None if run_id is None else f"oversight run {run_id}"
        self._started_at = time.monotonic()
        self._answered = threading.Event()
        self._done = threading.Event()
        self._result: DbtResult | None = None
        self._give_up: Callable[[], None] = lambda: None
        self._is_cancelled = False
        self._has_leftovers = False
        self._lock = threading.Lock()
        self._quiet_since: float | None = None
        self._has_connected = False

    def wait(self, seconds: float | None = None) -> DbtResult | None:
        """How it ended; None when it has not within these seconds."""
        if not self._done.wait(seconds):
            return None
        with self._lock:
            if self._has_leftovers:
                self._end_sessions()
                self._has_leftovers = False
        return self._result

    def cancel(self) -> None:
        """End it: dbt is told to stop, its sessions are ended, and if it still lives it is killed.

        May be called again and by any thread; afterwards the run has ended.
        """
        self._is_cancelled = True
        self._signal(signal.SIGINT)
        if not self._done.wait(_NOTICE_SECONDS):
            # dbt, which acts as oversight_owner, may not end sessions of the login, and waits.
            self._end_sessions()
        if not self._done.wait(_GRACE_SECONDS):
            self._signal(signal.SIGKILL)
        self._end_sessions()
        if not self._done.wait(_KILL_SECONDS):
            self._give_up()
            self._done.wait(_KILL_SECONDS)

    def is_stuck(self) -> bool:
        """Whether its process lives and has let the database wait for longer than 30 s.

        Until its first session is seen, it may take 120 s.
        """
        if self._session_name is None or self._done.is_set():
            return False
        now = time.monotonic()
        quiet = self._quiet_seconds()
        if quiet is not None:
            self._quiet_since = now - quiet
            self._has_connected = True
        elif self._quiet_since is None:
            self._quiet_since = now
        limit = STUCK_SECONDS if self._has_connected else CONNECT_SECONDS
        return now - self._quiet_since > limit

    def started(self, pid: int, give_up: Callable[[], None]) -> None:
        """Its server says that it runs; `give_up` ends even a server that no longer answers."""
        self.pid = pid
        self._give_up = give_up
        self._answered.set()

    def refused(self) -> None:
        """Its server can't start it; another one may."""
        self._answered.set()

    def wait_for_start(self, seconds: float) -> bool:
        """Whether it has started within these seconds."""
        self._answered.wait(seconds)
        self._answered.clear()
        return self.pid != 0

    def ended(self, status: int | None, result: dict[str, Any] | None) -> None:
        """Its server says how it ended: exit status (None: not known), result if it wrote one."""
        if self._done.is_set():
            return
        output = _end_of(self.folder / "output")
        success = bool(result and result["success"]) and status == 0
        failures = tuple(result["failures"]) if result else ()
        if not success and self._is_cancelled:
            failures = ("dbt: cancelled",)
        elif not success and not failures:
            last = " ".join(" ".join(output.splitlines()[-_TAIL_LINES:]).split())
            failures = (": ".join(text for text in ("dbt", _meaning(status), last) if text),)
        self._has_leftovers = result is None
        self._result = DbtResult(
            success=success,
            failures=failures,
            output=output,
            dbt_version=version("dbt-core"),
            seconds=time.monotonic() - self._started_at,
        )
        shutil.rmtree(self.folder, ignore_errors=True)
        self._done.set()

    def _signal(self, number: int) -> None:
        if not self._done.is_set():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _end_sessions(self) -> None:
        """End what the run left in the database; the server does so itself within two seconds."""
        if self._session_name is None:
            return
        try:
            connection = connect(self._settings, autocommit=True)
            try:
                with connection.cursor() as cursor:
                    cursor.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity "
                        "where application_name = %s and datname = current_database()",
                        (self._session_name,),
                    )
            finally:
                connection.close()
        except (OversightError, psycopg2.Error) as error:
            log.warning(
                "sessions of a run were not ended", run=self._session_name, error=str(error)
            )

    def _quiet_seconds(self) -> float | None:
        """For how long none of its sessions has done anything; None when it has none."""
        connection = connect(self._settings, autocommit=True)
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    """
                    select min(
                        case
                            when state = 'active' then 0
                            else extract(epoch from clock_timestamp() - state_change)
                        end
                    )::float8
                    from pg_stat_activity
                    where application_name = %s and datname = current_database()
                    """,
                    (self._session_name,),
                )
                row = cursor.fetchone()
                assert row is not None
                return None if row[0] is None else float(row[0])
        finally:
            connection.close()


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _OUTPUT_CHARACTERS))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def _meaning(status: int | None) -> str:
    if status is None:
        return "its process is gone"
    if status < 0:
        return f"its process was killed by {signal.Signals(-status).name}"
    return f"its process ended with exit status {status}"
