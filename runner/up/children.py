"""Processes that `oversight up` starts: started apart from the terminal, stopped in order.

Each child has its own session, so that Ctrl-C reaches only `up`, which then ends them one after the
other; and it is told to end when `up` dies without having been able to (Linux only).
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runner.processes import end_with_parent
from warehouse.errors import OversightError

SETTLED_SECONDS = 60.0
MOST_LOG_BYTES = 64 << 20
LOOKS_PER_CUT = 120
_TAIL_LINES = 15


class ChildError(OversightError):
    """A process that has to run ended, or never became ready."""


@dataclass(kw_only=True)
class Child:
    """One running command with its log file."""

    name: str
    command: Sequence[str]
    log: Path
    process: "subprocess.Popen[bytes]"
    started_at: float

    @classmethod
    def start(cls, name: str, command: Sequence[str], *, log_dir: Path) -> "Child":
        """Start a command of this Python; its output goes to <log_dir>/<name>.log."""
        log = log_dir / f"{name.lower()}.log"
        return cls(
            name=name,
            command=command,
            log=log,
            process=_open(command, log),
            started_at=time.monotonic(),
        )

    def start_again(self) -> None:
        """Start the same command once more, after it has ended."""
        self.process = _open(self.command, self.log)
        self.started_at = time.monotonic()

    def check(self) -> None:
        """Raise a ChildError with the end of its log when it is no longer running."""
        status = self.process.poll()
        if status is not None:
            raise ChildError(
                f"the {self.name} ended by itself ({_meaning(status)}); "
                f"the end of {self.log}:\n{self.tail()}"
            )

    def cut_log(self) -> None:
        """Keep a log that has grown large as <log>.1, in the place of the last, and begin anew.

        The process goes on writing, at the end: a line of the moment between may be lost.
        """
        if self.log.stat().st_size > MOST_LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_name(f"{self.log.name}.1"))
            os.truncate(self.log, 0)

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:])

    def stop(self, *, seconds: float) -> bool:
        """Ask it to end, wait, then kill it and all it started; whether asking was enough."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return False
        return True


def keep_running(
    children: Sequence[Child], say: Callable[[str], None], *, seconds: float = 0.5
) -> None:
    """Never return: start again what ended by itself, with a word; now and then cut the logs.

    One that ended within SETTLED_SECONDS would only do so again: then its ChildError is raised.
    """
    looks = 0
    while True:
        for child in children:
            if looks % LOOKS_PER_CUT == 0:
                # a full disk must not end what still answers
                with contextlib.suppress(OSError):
                    child.cut_log()
            try:
                child.check()
            except ChildError as error:
                if time.monotonic() - child.started_at < SETTLED_SECONDS:
                    raise
                say(f"\n{error}\nstarting the {child.name} again")
                child.start_again()
        looks += 1
        time.sleep(seconds)


def _open(command: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(end_with_parent, os.getpid(), signal.SIGTERM),
        )


def _meaning(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"killed by {signal.Signals(-status).name}"
