"""One request and its answer, as the edge, the views and the log share it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api.access.auth import Principal
    from api.front.answers import Known
    from api.problems import ProblemError
    from api.watching.trace import Trace

EXCHANGE = "oversight.exchange"
_CACHE_CONTROL = ("Cache-Control", "private, no-cache")
_CALLERS = ("Authorization", "Cookie")


@dataclass(kw_only=True, slots=True)
class Exchange:
    """`principal` is None where no key is asked for; `headers` go out with whatever answer."""

    started: float
    trace: Trace
    principal: Principal | None = None
    problem: ProblemError | None = None
    """What stands against an answer where Flask makes a page of it, or notes it."""
    status: int = 0
    rule: str | None = None
    """The route that Flask found; None when Flask was not asked, or found none."""
    headers: list[tuple[str, str]] = field(default_factory=list)
    is_report: bool = False
    """Whether it is a GET or HEAD of the reporting API, whose answers have an ETag."""
    is_known: bool = False
    """Whether the answer was known without asking the database."""
    is_streamed: bool = False
    last_known: Known | None = None
    """What may be given, marked as stale, when the database turns out to be away."""
    key: tuple[str, ...] | None = None
    generation: int = 0
    shows: tuple[str, ...] | None = None
    zone: str = "UTC"

    @property
    def request_id(self) -> str:
        """The name of the request that its caller sees, too."""
        return self.trace.request_id

    def keep(self, *, shows: Iterable[str], zone: str) -> None:
        """The answer may be given again until one of these marts changes, or midnight of the zone.

        A mart that is late later on ends it by itself where the body has a freshness block.
        """
        self.shows, self.zone = tuple(shows), zone


def private(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers, and that no shared cache may keep the answer or give it to another caller."""
    names, kept = [*_CALLERS], []
    is_bounded = False
    for name, value in fields:
        lower = name.lower()
        if lower == "vary":
            names += [item.strip() for item in value.split(",") if item.strip() not in names]
            continue
        is_bounded = is_bounded or lower == "cache-control"
        kept.append((name, value))
    if not is_bounded:
        kept.append(_CACHE_CONTROL)
    kept.append(("Vary", ", ".join(names)))
    return kept
