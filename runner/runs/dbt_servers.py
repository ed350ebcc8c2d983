"""The processes of dbt_process, as the runner starts and hears them.

Each is started and heard by one thread that lives as long as it does: the kernel ends a process
with the thread that started it, and a worker's thread may end sooner.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from runner.runs.dbt_run import DbtRun
from warehouse import dbt
from warehouse.errors import OversightError
from warehouse.settings import Settings

_READY_SECONDS = 120
_START_SECONDS = 10
_CLOSE_SECONDS = 5


class DbtError(OversightError):
    """dbt can't be started, or can't parse the project; the message holds dbt's own words."""


class DbtGoneError(DbtError):
    """The parent process ended or does not answer; another one may be started."""


class Once:
    """A process for one run, with imports and parse of its own."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = environment

    def start(self, run: DbtRun, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the run; a DbtError says that no process could be started."""
        request = _request(0, run, arguments, environment)
        threading.Thread(target=self._serve, args=(run, request), daemon=True).start()
        if not run.wait_for_start(_START_SECONDS):
            raise DbtError("dbt could not be started: no process, or no memory for one")

    def _serve(self, run: DbtRun, request: bytes) -> None:
        try:
            process = _popen(self._settings, "once", self._environment, run.folder)
        except OSError:
            run.refused()
            return
        with process:
            run.started(process.pid, process.kill)
            written, _ = process.communicate(request)
        result = json.loads(written) if written else None
        run.ended(process.returncode, result)


class Parent:
    """The process that holds imports and the parsed project, and forks a child per run.

    Raises DbtError with dbt's own words when the project does not parse.
    """

    def __init__(self, settings: Settings, environment: Mapping[str, str], folder: Path) -> None:
        self._settings = settings
        self._environment = environment
        self._folder = folder
        self._numbers = itertools.count(1)
        self._runs: dict[int, DbtRun] = {}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._heard = threading.Event()
        self._is_ready = False
        self._output = ""
        self._thread = threading.Thread(target=self._serve, name="dbt's parent", daemon=True)
        self._thread.start()
        self._heard.wait(_READY_SECONDS)
        if not self._is_ready:
            self.close()
            raise DbtError(
                f"dbt can't parse {settings.project_dir}; mend what it says here, "
                f"`dbt parse` in that folder says it again:\n{self._output.strip()}"
            )

    @property
    def is_able(self) -> bool:
        """Whether it lives and nobody has tidied away what its runs read."""
        return self._thread.is_alive() and (self._folder / "dbt_project.yml").exists()

    @property
    def is_busy(self) -> bool:
        """Whether a run of it is under way."""
        return bool(self._runs)

    def start(self, run: DbtRun, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Fork a child for the run; DbtGoneError when there is nobody to do so."""
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._numbers)
        self._runs[number] = run
        try:
            with self._lock:
                self._process.stdin.write(_request(number, run, arguments, environment))
                self._process.stdin.flush()
        except (OSError, ValueError) as error:
            self._runs.pop(number, None)
            raise DbtGoneError(f"it has ended: {error}") from error
        if not run.wait_for_start(_START_SECONDS):
            self._runs.pop(number, None)
            self.kill()
            raise DbtGoneError("it ended, or does not answer")

    def kill(self) -> None:
        """End it and its children at once."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Let it end; its children end with it."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            self.kill()
            self._thread.join(_CLOSE_SECONDS)

    def _serve(self) -> None:
        try:
            with _popen(self._settings, "warm", self._environment, self._folder) as process:
                self._process = process
                assert process.stdout is not None
                for line in process.stdout:
                    self._hear(line)
        except OSError as error:
            self._output = f"{self._output}\n{error}"
        finally:
            for run in list(self._runs.values()):
                if run.pid:
                    run.ended(None, None)
                else:
                    run.refused()
            self._runs.clear()
            self._heard.set()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _hear(self, line: bytes) -> None:
        answer = json.loads(line)
        if "ready" in answer:
            self._is_ready, self._output = answer["ready"], answer.get("output", "")
            self._heard.set()
        elif "pid" in answer:
            self._runs[answer["id"]].started(answer["pid"], self.kill)
        elif "refused" in answer:
            self._runs.pop(answer["id"]).refused()
        else:
            self._runs.pop(answer["id"]).ended(answer["status"], answer["result"])


def _popen(
    settings: Settings, mode: str, environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "runner.runs.dbt_process", mode, str(os.getpid())),
            *(str(settings.project_dir), dbt.target(settings), str(folder)),
        ],
        cwd=settings.project_dir,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def _request(
    number: int, run: DbtRun, arguments: Sequence[str], environment: Mapping[str, str]
) -> bytes:
    request = {
        "id": number,
        "arguments": list(arguments),
        "environment": dict(environment),
        "folder": str(run.folder),
    }
    return json.dumps(request).encode() + b"\n"
