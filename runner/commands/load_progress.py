"""Progress of a load: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class LoadProgress:
    """Shows the share of each file that is read; a log gets one line per file."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._tasks: dict[str, TaskID | None] = {}
        self._bars: Progress | None = None
        if sys.stderr.isatty():
            self._bars = Progress(
                TextColumn(engine),
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )

    def __enter__(self) -> LoadProgress:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars:
            self._bars.stop()

    def show(self, name: str, share: float) -> None:
        """Note that `share` per cent of the file `name` are read."""
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=100) if self._bars else None
            if self._bars is None:
                sys.stderr.write(f"{self._engine}: reading {name}\n")
                sys.stderr.flush()
        task = self._tasks[name]
        if self._bars and task is not None:
            self._bars.update(task, completed=max(share, 0.0))
