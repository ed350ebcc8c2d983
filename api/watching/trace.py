"""Which request this is: its id, its place in a caller's trace (W3C), its time in the database."""

from __future__ import annotations

import random
import re
from contextvars import ContextVar
from dataclasses import dataclass

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Any version but ff, and ids that are not all zeros; later versions may append more.
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?"
)
_SAMPLED = 1


@dataclass(slots=True, kw_only=True)
class Trace:
    """The names of one request; the ids are of [A-Za-z0-9._-] alone, whatever was sent.

    `is_sampled`: the caller's trace is recorded, or chance has chosen this request for the log.
    """

    request_id: str
    trace_id: str
    span_id: str
    is_sampled: bool
    db_seconds: float = 0.0
    problem: str | None = None
    """The code of the problem that is the answer."""

    @classmethod
    def of(cls, request_id: str, traceparent: str, *, share: float) -> Trace:
        """A trace from the headers as sent; what is malformed is made anew, as the standard asks.

        `share` of the requests that no recorded trace belongs to are sampled.
        """
        if not _REQUEST_ID.fullmatch(request_id):
            request_id = f"{random.getrandbits(128):032x}"
        trace_id, flags = _parent(traceparent)
        return cls(
            request_id=request_id,
            trace_id=trace_id or f"{random.getrandbits(128) or 1:032x}",
            span_id=f"{random.getrandbits(64) or 1:016x}",
            is_sampled=bool(flags & _SAMPLED) or random.random() < share,
        )

    @property
    def traceparent(self) -> str:
        """This request as the parent of what it causes."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_sampled else '00'}"

    def sql_comment(self) -> str:
        """What goes before each SQL message, as sqlcommenter writes it.

        At the front, because pg_stat_activity shows the first thousand characters only.
        """
        return f"/*request_id='{self.request_id}',traceparent='{self.traceparent}'*/ "


current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The request that this thread answers; None in threads that answer none."""


def _parent(traceparent: str) -> tuple[str | None, int]:
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match.group(1) == "00" and match.group(4)):
        return None, 0
    return match.group(2), int(match.group(3), 16)
