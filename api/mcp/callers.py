"""Which tools each caller has: the API's document and the marts it lists for the caller's token."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from api.mcp.tools import MARTS, Operation, operations
from api.mcp.upstream import Answer, UnreachableError, Upstream, unreadable

DOCUMENT = "/openapi.json"
REMEMBERED_CALLERS = 200
_LOST_STATUSES = (429, 500, 502, 503, 504)

log = structlog.get_logger()


class RefusedError(Exception):
    """The API answered, but not with what was asked for; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, kw_only=True)
class Known:
    """What one caller may use, as of `compared_at` (monotonic seconds)."""

    operations: Mapping[str, Operation]
    document: Answer
    marts: Answer
    compared_at: float


class Callers:
    """The tools of the callers seen last, compared with the API by ETag when they are asked for."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._known: OrderedDict[str, Known] = OrderedDict()

    def has(self, token: str) -> bool:
        """Whether the token was good when it was seen last."""
        return _digest(token) in self._known

    def forget(self, token: str) -> None:
        """After the API refused the token: its holder is asked about at the next message."""
        self._known.pop(_digest(token), None)

    async def known(self, token: str, *, within_seconds: float) -> Known:
        """What the token's holder may use, compared at most so long ago.

        With the API lost, what was known last is given; RefusedError and UnreachableError where
        nothing was, RefusedError always when the API no longer knows the token.
        """
        name = _digest(token)
        known = self._known.get(name)
        now = time.monotonic()
        if known is not None and now - known.compared_at <= within_seconds:
            return known
        try:
            newest = await self._compared(token, known, now)
        except UnreachableError:
            if known is None:
                raise
            return known
        except RefusedError as error:
            if known is not None and error.answer.status in _LOST_STATUSES:
                return known
            self._known.pop(name, None)
            raise
        self._known[name] = newest
        self._known.move_to_end(name)
        while len(self._known) > REMEMBERED_CALLERS:
            self._known.popitem(last=False)
        return newest

    async def _compared(self, token: str, known: Known | None, now: float) -> Known:
        document = await self._newest(DOCUMENT, token, known.document if known else None)
        marts = await self._newest(MARTS, token, known.marts if known else None)
        if known is not None and document is known.document and marts is known.marts:
            found = known.operations
        else:
            try:
                readable = {str(mart["path"]) for mart in marts.body["data"]}
                found = operations(document.body, readable)
            except (KeyError, TypeError, AttributeError) as error:
                log.error("unreadable document", error=f"{type(error).__name__}: {error}")
                raise unreadable() from error
        return Known(operations=found, document=document, marts=marts, compared_at=now)

    async def _newest(self, path: str, token: str, known: Answer | None) -> Answer:
        etag: Any = known.headers.get("ETag") if known else None
        answer = await self._upstream.get(path, token=token, etag=etag)
        if answer.status == 304 and known is not None:
            return known
        if answer.status != 200:
            raise RefusedError(answer)
        return answer


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
