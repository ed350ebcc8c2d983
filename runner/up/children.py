"""Processes that `oversight up` starts: started apart from the terminal, stopped in order.

Each child has its own session, so that Ctrl-C reaches only `up`, which then ends them one after the
other; and it is told to end when `up` dies without having been able to (Linux only).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runner.processes import end_with_parent
from warehouse.errors import OversightError

_TAIL_LINES = 15


class ChildError(OversightError):
    """A process that has to run ended, or never became ready."""


@dataclass(kw_only=True)
class Child:
    """One running command with its log file."""

    name: str
    log: Path
    process: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls, name: str, command: Sequence[str], *, log_dir: Path) -> "Child":
        """Start a command of this Python; its output goes to <log_dir>/<name>.log."""
        log = log_dir / f"{name.lower()}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(end_with_parent, os.getpid(), signal.SIGTERM),
            )
        return cls(name=name, log=log, process=process)

    def check(self) -> None:
        """Raise a ChildError with the end of its log when it is no longer running."""
        status = self.process.poll()
        if status is not None:
            raise ChildError(
                f"the {self.name} ended by itself ({_meaning(status)}); "
                f"the end of {self.log}:\n{self.tail()}"
            )

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


def wait_for_end(children: Sequence[Child], *, seconds: float = 0.5) -> None:
    """Return never while all run: raises the ChildError of the first that ended."""
    while True:
        for child in children:
            child.check()
        time.sleep(seconds)


def _meaning(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"killed by {signal.Signals(-status).name}"
