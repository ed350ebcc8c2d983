"""The command line on a pseudo-terminal, and between pipes."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from clusters import PROJECT_DIR

_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class OnTerminal:
    """What came to the terminal (standard error), and standard output beside it."""

    status: int
    terminal: str
    output: str


def on_pipe(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `oversight` as another program would."""
    return subprocess.run(
        _command(arguments),
        cwd=PROJECT_DIR, capture_output=True, text=True, check=False, timeout=_SECONDS,
    )  # fmt: skip


def on_terminal(*arguments: str) -> OnTerminal:
    """Run `oversight` with a terminal as standard error and a file as standard output."""
    return run_on_terminal(_command(arguments))


def run_on_terminal(command: list[str]) -> OnTerminal:
    """Any program so."""
    parent, child = pty.openpty()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=child,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
            cwd=PROJECT_DIR,
        )
        os.close(child)
        seen = _read_all(parent)
        os.close(parent)
        status = process.wait(timeout=_SECONDS)
        output.seek(0)
        return OnTerminal(status=status, terminal=seen.decode(), output=output.read())


def _read_all(descriptor: int) -> bytes:
    seen = b""
    while True:
        assert select.select([descriptor], [], [], _SECONDS)[0], (
            f"silent for {_SECONDS} s: {seen!r}"
        )
        try:
            piece = os.read(descriptor, 1 << 16)
        except OSError:
            # What Linux says when the last one has closed the terminal's other side.
            return seen
        if not piece:
            return seen
        seen += piece


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "runner.cli", *arguments]
