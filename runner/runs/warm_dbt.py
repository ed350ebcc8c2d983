"""The runner's side of dbt: start a run, wait for it, cancel it so that nothing of it stays.

Warm, runs are forks of one process that holds dbt's imports and the parsed project (see
dbt_process); else each is a process of its own. What a caller sees is the same.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

import psycopg2
import structlog

from runner.runs.dbt_run import DbtResult, DbtRun
from runner.runs.dbt_servers import DbtError, DbtGoneError, Once, Parent
from warehouse import dbt
from warehouse.errors import OversightError
from warehouse.settings import Settings

__all__ = ["Dbt", "DbtError", "DbtResult", "DbtRun"]

_PREFIX = "oversight-dbt-"
_LEFT_SECONDS = 60
"""A folder is made a moment before it is locked."""
_READ = ("models", "macros", "seeds", "snapshots", "tests/generic", "tests/parity",
         "tests/integrity")  # fmt: skip
_PASSED_OVER = (".", "#", "~")
"""How names begin that dbt does not read: an editor's locks and copies."""

log = structlog.get_logger()

Fingerprint = tuple[tuple[str, int, int, int], ...]


class Dbt:
    """dbt for one project; `close` cancels what still runs and leaves no process."""

    def __init__(self, settings: Settings, *, warm: bool | None = None) -> None:
        self._settings = settings
        wanted = settings.is_dbt_warm if warm is None else warm
        self._is_warm = wanted and hasattr(os, "fork")
        self._folder, self._folder_lock = _own_folder()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._parent: Parent | None = None
        self._outdated: list[Parent] = []
        """Parents of an older state of the project that still have runs."""
        self._tried: Fingerprint = ()
        self._runs: set[DbtRun] = set()

    def __enter__(self) -> Dbt:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, arguments: Sequence[str], *, run_id: int | None) -> DbtRun:
        """Start `dbt <arguments>`; `run_id` is its open row in metadata.refresh_log.

        Raises DbtError when the project does not parse (and never did), or no process starts.
        """
        environment = dbt.environment(self._settings, run_id=run_id)
        with self._lock:
            run = DbtRun(self._settings, run_id, self._new_folder())
            try:
                if not self._is_warm:
                    Once(self._settings, environment).start(run, arguments, environment)
                else:
                    try:
                        self._warm(environment).start(run, arguments, environment)
                    except DbtGoneError as error:
                        log.warning("dbt's parent process is started again", reason=str(error))
                        self._parent = None
                        self._warm(environment).start(run, arguments, environment)
            except BaseException:
                shutil.rmtree(run.folder, ignore_errors=True)
                raise
            self._runs = {other for other in self._runs if other.wait(0) is None} | {run}
        return run

    def warm_up(self) -> None:
        """Parse the project now rather than at the first run; what fails is said again there."""
        if not self._is_warm:
            return
        try:
            environment = dbt.environment(self._settings)
            with self._lock:
                self._warm(environment)
        except (OversightError, psycopg2.Error) as error:
            log.warning("dbt is not warm yet", error=str(error))

    def close(self) -> None:
        """Cancel every run and end the parent process."""
        with self._lock:
            for run in self._runs:
                run.cancel()
            self._runs.clear()
            for parent in [*self._outdated, *([self._parent] if self._parent else [])]:
                parent.close()
            self._parent = None
            self._outdated.clear()
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder_lock.close()

    def _warm(self, environment: dict[str, str]) -> Parent:
        """The parent for the project as it is now, else for how it last parsed."""
        if self._parent is not None and not self._parent.is_able:
            self._outdated.append(self._parent)
            self._parent = None
        for parent in [parent for parent in self._outdated if not parent.is_busy]:
            parent.close()
            self._outdated.remove(parent)
        found = fingerprint(self._settings.project_dir)
        if self._parent is not None and found == self._tried:
            return self._parent
        self._tried = found
        try:
            parent = Parent(self._settings, environment, self._new_folder())
        except DbtError as error:
            if self._parent is None:
                raise
            log.warning("the project does not parse; its last good state stays", error=str(error))
            return self._parent
        if self._parent is not None:
            log.info("the project changed and was parsed again")
            self._outdated.append(self._parent)
        self._parent = parent
        return parent

    def _new_folder(self) -> Path:
        folder = self._folder / str(next(self._numbers))
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise DbtError(f"dbt has nowhere to write: {error}; make room there") from error
        return folder


def _own_folder() -> tuple[Path, IO[bytes]]:
    """A new folder and the lock that says it is in use; those of killed programs are removed."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = (folder / "lock").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    for other in folder.parent.glob(f"{_PREFIX}*/lock"):
        try:
            if time.time() - other.stat().st_mtime < _LEFT_SECONDS:
                continue
            with other.open("rb") as left:
                fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other.parent, ignore_errors=True)
        except OSError:
            continue
    return folder, lock


def fingerprint(project_dir: Path) -> Fingerprint:
    """What tells whether anything that dbt reads has changed, without reading it."""
    found: list[tuple[str, int, int, int]] = []
    waiting = [str(project_dir / name) for name in _READ]
    for name in ("dbt_project.yml", "profiles.yml"):
        found += _state(name, project_dir / name)
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            if entry.is_dir():
                waiting.append(entry.path)
            elif not entry.name.startswith(_PASSED_OVER):
                found += _state(entry.path, Path(entry.path))
    return tuple(sorted(found))


def _state(name: str, path: Path) -> Fingerprint:
    """One entry, also for a link to nothing; none for what goes in the middle of a checkout."""
    for follow in (True, False):
        with suppress(FileNotFoundError):
            state = path.stat(follow_symlinks=follow)
            return ((name, state.st_mtime_ns, state.st_size, state.st_ino),)
    return ()
