"""How many heavy reads run at once, so that a light one always finds a connection."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from api.problems import unavailable
from api.reporting.parameters import DEFAULT_PAGE_SIZE, Request
from warehouse.catalogue import Mart

LIGHT_ROW_DAYS = 50_000
"""Rows of a page times days of the window: the widest window of default pages is below it."""


class HeavyReads:
    """At most `at_once` of one process, and half of them of one principal."""

    def __init__(self, *, at_once: int) -> None:
        self._at_once = at_once
        self._of_one = max(1, at_once // 2)
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def place(self, principal_id: str, *, is_heavy: bool) -> Iterator[None]:
        """Room for one read; a problem (503) where too many heavy ones are running."""
        if not is_heavy:
            yield
            return
        with self._lock:
            of_one = self._running[principal_id]
            if of_one >= self._of_one or self._running.total() >= self._at_once:
                raise unavailable(
                    "busy-heavy",
                    "too many large reads are running; try again, or ask for fewer days or rows",
                    retry_after_seconds=1,
                )
            self._running[principal_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[principal_id] -= 1
                if not self._running[principal_id]:
                    del self._running[principal_id]


def is_heavy(mart: Mart, asked: Request) -> bool:
    """Whether a read may take long: many rows of a long window."""
    rows = asked.page_size or DEFAULT_PAGE_SIZE
    if mart.window is None:
        return rows > DEFAULT_PAGE_SIZE
    days = mart.window.default_days
    if asked.window.first and asked.window.last:
        days = (asked.window.last - asked.window.first).days + 1
    return rows * days > LIGHT_ROW_DAYS
