"""Progress of long work: bars or moving lines on a terminal, plain lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

PLAIN_SECONDS = 5.0
"""A log gets no more than one line in so many seconds."""
_WIDTH = 34


class Progress:
    """How far each piece of one work is, on standard error so that results stay alone on output.

    On a terminal each piece has a bar, gone at the end; elsewhere there is a line at the start and
    then one each few seconds, without control characters. `unit` says what is counted; without it
    only the share is shown.
    """

    def __init__(self, title: str, *, unit: str | None = None) -> None:
        self._title = title
        self._unit = unit
        self._tasks: dict[str, TaskID] = {}
        self._next_line_at = 0.0
        self._bars: RichProgress | None = None
        if is_terminal(sys.stderr):
            self._bars = RichProgress(
                TextColumn(title, markup=False),
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[amount]}", markup=False),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
                # What a command prints stays on standard output.
                redirect_stdout=False,
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars:
            self._bars.stop()

    def show(self, name: str, done: float, total: float = 100) -> None:
        """Note that of the piece `name` so much of `total` is done; of nothing all is done."""
        done = min(max(done, 0.0), total)
        amount = f"{100 * done / total if total else 100:.0f} %"
        if self._unit is not None:
            amount = f"{done:,.0f} of {total:,.0f} {self._unit}, {amount}"
        if self._bars:
            # Not before there is something to show: until then somebody may be asked something.
            self._bars.start()
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total, amount=amount)
            self._bars.update(self._tasks[name], completed=done, total=total, amount=amount)
        elif time.monotonic() >= self._next_line_at:
            self._next_line_at = time.monotonic() + PLAIN_SECONDS
            words = " ".join(filter(None, (name, amount)))
            sys.stderr.write(f"{self._title}: {words}\n")
            sys.stderr.flush()


class Steps:
    """Writes a line per step; on a terminal the line also moves while the step goes on."""

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = output or sys.stdout
        self._is_terminal = is_terminal(self._output)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Announce a step, then its seconds; gives a function that takes (done, of how many)."""
        began = time.monotonic()
        text = f"{name} ".ljust(_WIDTH, ".") + " "
        self._write(text)

        def on_progress(done: int, of: int) -> None:
            if self._is_terminal:
                self._write(f"\r{text}{done} of {of} ")

        try:
            yield on_progress
        except BaseException:
            self._write("failed\n")
            raise
        seconds = f"{time.monotonic() - began:.1f} s"
        self._write(f"\r{text}{seconds:<12}\n" if self._is_terminal else f"{seconds}\n")

    def _write(self, text: str) -> None:
        self._output.write(text)
        self._output.flush()


def is_terminal(output: TextIO) -> bool:
    """Whether a person looks at it on a terminal that can move its cursor."""
    return output.isatty() and os.environ.get("TERM") != "dumb"
