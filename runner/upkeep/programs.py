"""PostgreSQL's own programs for backups: which of the installed ones fit, and how they are run."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn, parse_dsn

from warehouse import database, server
from warehouse.errors import OversightError, ServerError
from warehouse.settings import Settings

_LAST_LINES = 5
# They change what a session reads and writes. Those of addresses, passwords and TLS stay: psycopg2
# heeds them too, and the programs have to reach the same server in the same way.
_CHANGING = frozenset(
    {"PGOPTIONS", "PGTZ", "PGDATESTYLE", "PGCLIENTENCODING", "PGGEQO", "PGAPPNAME"}
)


class BackupError(OversightError):
    """A backup could not be taken, proved or restored; the message says what was left as it was."""


class CheckedRun(Protocol):
    """The run in refresh_log that upkeep works for: it counts, and may be cancelled."""

    rows_affected: int | None

    def check(self) -> None:
        """Raise when the run is cancelled or over."""


OnProgress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is, and of how much."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who looks on: a run that may be cancelled, and a person who wants to know how far it is."""

    run: CheckedRun | None = None
    progress: OnProgress | None = None

    def check(self) -> None:
        """Raise what the run raises."""
        if self.run is not None:
            self.run.check()

    def show(self, name: str, done: int, total: int) -> None:
        """Say how far it is."""
        if self.progress is not None:
            self.progress(name, done, total)


UNWATCHED = Watch()


@dataclass(frozen=True, kw_only=True)
class Programs:
    """A folder that holds pg_dump, pg_restore and psql of one version."""

    folder: Path
    major: int

    def path(self, name: str) -> str:
        """The program of that name."""
        return str(self.folder / name)


def programs_for(connection: Connection, *, least: int = 0) -> Programs:
    """The oldest installed programs that fit the server: of its major version or newer.

    Looked for in the embedded server's folder and on PATH; `least` is another lower bound.
    """
    wanted = max(connection.server_version // 10000, least)
    found = [item for item in _installed() if item.major >= wanted]
    if not found:
        have = ", ".join(str(item.major) for item in _installed()) or "none"
        raise BackupError(
            f"pg_dump, pg_restore and psql of PostgreSQL {wanted} or newer are needed "
            f"(found: {have}); install the package postgresql-client-{wanted} and put its folder "
            "into PATH"
        )
    return min(found, key=lambda item: item.major)


def newest_programs() -> Programs:
    """The newest installed programs: they read what any older ones wrote."""
    found = _installed()
    if not found:
        raise BackupError(
            "pg_dump, pg_restore and psql are not installed; install the package "
            "postgresql-client and put its folder into PATH"
        )
    return max(found, key=lambda item: item.major)


def _installed() -> list[Programs]:
    folders = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    with contextlib.suppress(ServerError):
        folders.insert(0, server.bin_dir())
    found: list[Programs] = []
    for folder in folders:
        if all((folder / name).is_file() for name in ("pg_dump", "pg_restore", "psql")):
            major = _major(folder / "pg_dump")
            if major is not None:
                found.append(Programs(folder=folder, major=major))
    return found


def _major(program: Path) -> int | None:
    try:
        done = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(match[1]) if match else None


def address(settings: Settings, name: str | None = None) -> tuple[str, dict[str, str]]:
    """How a program reaches the database (or another one there): dsn and environment.

    The password travels in the environment, since other users see command lines.
    """
    parts = dict(parse_dsn(database.admin_dsn(settings)))
    password = parts.pop("password", None)
    if name is not None:
        parts["dbname"] = name
    environment = {key: value for key, value in os.environ.items() if key not in _CHANGING}
    environment["PGTZ"] = "UTC"
    if password:
        environment["PGPASSWORD"] = str(password)
    return str(make_dsn(**parts)), environment


class Child:
    """A program that is ended when its run is cancelled, and whose last words are kept."""

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.name = Path(command[0]).name
        # In a session of its own: Ctrl-C is for us, who then end it.
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=self._errors,
            start_new_session=True,
        )

    def wait(self, watch: Watch = UNWATCHED) -> int:
        """Its exit status, unless the run is over before."""
        while True:
            try:
                return self.process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                watch.check()

    def end(self) -> None:
        """Stop it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None and not stream.closed:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._errors.close()

    def complaint(self) -> str:
        """Its last lines on standard error, or how it ended."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        text = " ".join(" ".join(lines[-_LAST_LINES:]).split())
        status = self.process.returncode
        ended = f"signal {-status}" if status and status < 0 else f"status {status}"
        return f"{self.name} ended with {ended}" + (f": {text}" if text else "")
