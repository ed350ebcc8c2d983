"""Faults of the served engine: which request gets which, and how many were done."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.simulation.specification import SimulationError

KINDS = ("500s", "429s", "slow", "cut", "repeat")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault of a share of the requests, evenly spread, or of those with given numbers."""

    kind: str
    share: float = 1.0
    numbers: frozenset[int] = frozenset()

    def strikes(self, number: int) -> bool:
        """Whether the request of that number, from 1, gets it."""
        if self.numbers:
            return number in self.numbers
        return int(number * self.share) > int((number - 1) * self.share)


def parse_fault(text: str) -> Fault:
    """`cut` is each request, `cut=0.3` a share of them, `cut@2,5` the second and the fifth."""
    for mark in "=@":
        kind, found, value = text.partition(mark)
        if found:
            return make_fault(kind, value if mark == "=" else value.split(","))
    return make_fault(text, 1)


def make_fault(kind: str, value: Any) -> Fault:
    """A fault from a share, or from a list of numbers."""
    try:
        if kind not in KINDS:
            raise ValueError
        if isinstance(value, list):
            numbers = frozenset(int(number) for number in value)
            if not numbers or min(numbers) < 1:
                raise ValueError
            return Fault(kind=kind, numbers=numbers)
        share = float(value)
        if not 0 < share <= 1:
            raise ValueError
        return Fault(kind=kind, share=share)
    except (ValueError, TypeError) as error:
        raise SimulationError(
            f"{kind}, {value}: no fault; give one of {', '.join(KINDS)}, with a share above 0 and "
            "at most 1, or with the numbers of requests from 1"
        ) from error


class Faults:
    """The faults that are on, and what was done; threads may ask at once."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._lock = threading.Lock()
        self._faults = faults
        self._requests = 0
        self._done = dict.fromkeys(KINDS, 0)

    def switch(self, content: Mapping[str, Any]) -> None:
        """Put on what `content` says, kind to share or numbers, and no other; count from 0."""
        faults = tuple(make_fault(kind, value) for kind, value in content.items())
        with self._lock:
            self._faults = faults
            self._requests = 0
            self._done = dict.fromkeys(KINDS, 0)

    def count(self) -> set[str]:
        """Count a request; gives back what is to be done to it."""
        with self._lock:
            self._requests += 1
            return {fault.kind for fault in self._faults if fault.strikes(self._requests)}

    def note(self, kind: str) -> int:
        """Note that a fault was done; gives back how often it was."""
        with self._lock:
            self._done[kind] += 1
            return self._done[kind]

    def seen(self) -> dict[str, Any]:
        """How many requests came, and how often each fault was done."""
        with self._lock:
            return {"requests": self._requests, "done": dict(self._done)}
