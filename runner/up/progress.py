"""Steps of a long command: what is being done and how long it took."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_WIDTH = 34


class Steps:
    """Writes a line per step; on a terminal the line also moves while the step goes on."""

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = output or sys.stdout
        self._is_terminal = self._output.isatty()

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
