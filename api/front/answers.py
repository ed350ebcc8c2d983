"""Answers kept in memory before Flask: each until a mart that it shows changes, or the clock does.

No answer outlives what it shows: each read notes the number of changes heard of before its query,
and its answer counts only while no mart that it shows has changed since.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from flask import g, request
from werkzeug.http import parse_etags
from werkzeug.wrappers import Response

from api.front.exchange import Exchange, private
from api.problems import ProblemError, respond

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from api.database.circuit import Circuit
    from api.reporting.deployed import DeployedCatalogue

LARGEST_ANSWER_BYTES = 1024 * 1024
HEARD_SECONDS = 3.0
_LONGEST_QUERY = 2000
_LONGEST_CONDITION = 1000
_OVERHEAD_BYTES = 2000
_NOT_KEPT = {"date", "set-cookie"}
_CHANGED = ProblemError(412, "precondition-failed", "the answer is not the one that If-Match names")
_HIT = ("Cache-Status", "oversight; hit")
_CONDITIONS = (
    "HTTP_IF_NONE_MATCH",
    "HTTP_IF_MATCH",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_IF_UNMODIFIED_SINCE",
)
_OF_304 = {"etag", "cache-control", "vary"}
# A freshness block, whoever wrote the JSON; in a text of a row its quotes would be escaped.
_BLOCK = re.compile(rb'\{[^{}]*"is_stale" ?: ?false[^{}]*\}')
_LATE_AFTER = re.compile(rb'"late_after" ?: ?"([^"]+)"')
_FRESH = re.compile(rb'("status" ?: ?)"fresh"')
_NOT_STALE = re.compile(rb'("is_stale" ?: ?)false')


@dataclass(frozen=True, kw_only=True)
class Known:
    """An answer that may be given again."""

    body: bytes
    etag: str
    headers: list[tuple[str, str]]
    validators: list[tuple[str, str]]
    """The headers of a 304."""
    marts: tuple[str, ...]
    generation: int
    made_at: float
    ends_at: float

    @property
    def size(self) -> int:
        """What it takes of the bound."""
        return len(self.body) + _OVERHEAD_BYTES

    @property
    def has_freshness(self) -> bool:
        """Whether it can say that it is stale."""
        return _BLOCK.search(self.body) is not None

    def as_stale(self) -> Known:
        """The same, marked as stale, with what the clock makes of it now."""
        now = datetime.now(timezone.utc)
        body = _BLOCK.sub(lambda match: _as_stale(match.group(), now), self.body)
        etag = _etag(body)
        own = {
            "ETag": etag,
            "Content-Length": str(len(body)),
            "Age": str(int(time.time() - self.made_at)),
            "Cache-Status": "oversight; hit; detail=stale",
        }
        return replace(
            self,
            body=body,
            etag=etag,
            headers=[*(pair for pair in self.headers if pair[0] not in own), *own.items()],
            validators=[
                *(pair for pair in self.validators if pair[0] not in own),
                *(pair for pair in own.items() if pair[0] != "Content-Length"),
            ],
        )

    def as_response(self) -> Response:
        """For where Flask has begun to answer."""
        return Response(self.body, status=200, headers=self.headers)

    def is_what(self, if_none_match: str) -> bool:
        """Whether the caller has it already: If-None-Match compares weakly, and takes lists."""
        return if_none_match == self.etag or parse_etags(if_none_match).contains_weak(
            self.etag.strip('"')
        )


class Answers:
    """The answers of one process, least recently used first to go beyond `most_bytes`.

    They count only while the listening connection is heard of: else all is read anew.
    """

    def __init__(
        self,
        catalogue: DeployedCatalogue,
        *,
        circuit: Circuit,
        most_bytes: int,
        stale_seconds: float,
    ) -> None:
        self._catalogue = catalogue
        self._circuit = circuit
        self._most_bytes = most_bytes
        self._stale_seconds = stale_seconds
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], Known] = OrderedDict()
        self.bytes = 0
        self.generation = 0
        self._all_changed = 0
        self._changed: dict[str, int] = {}
        self._heard_at = float("-inf")
        self._heard_until = float("-inf")

    def find(self, environ: WSGIEnvironment, exchange: Exchange) -> Known | None:
        """The known answer to a GET; else the exchange notes under which key one may be kept.

        While the database is away, the last one that was known, which says so.
        """
        for name in _CONDITIONS:
            if len(environ.get(name, "")) > _LONGEST_CONDITION:
                del environ[name]  # As if not sent: it could only spare a read.
        if "HTTP_IF_MATCH" in environ:
            return None
        query, accept = environ.get("QUERY_STRING", ""), environ.get("HTTP_ACCEPT", "")
        served = self._catalogue.known_hash
        if exchange.principal is None or served is None:
            return None
        if len(query) + len(accept) > _LONGEST_QUERY:
            return None
        key = (served, exchange.principal.sees, environ["PATH_INFO"], _canonical(query), accept)
        exchange.key, exchange.generation = key, self.generation
        known = self._kept.get(key)
        if known is None or not self._is_unchanged(known.marts, known.generation):
            return None
        if not self.is_current:
            return self._last_known(known, exchange)
        if time.time() > known.ends_at:
            return None
        with contextlib.suppress(KeyError):  # Another thread made room just now.
            self._kept.move_to_end(key)
        return known

    def take(self, response: Response) -> Response:
        """Give a 200 of the reporting API its ETag, keep it where its view says so, answer 304.

        Runs after each view of the app. What the database turned out to be away for is answered
        by what was known last.
        """
        exchange: Exchange = g.exchange
        if response.status_code == 503 and exchange.last_known and self._circuit.is_open:
            response = exchange.last_known.as_stale().as_response()
            response.make_conditional(request)
            return response
        exchange.is_streamed = response.is_streamed
        if not exchange.is_report or response.status_code != 200 or response.is_streamed:
            return response
        body = response.get_data()
        response.headers["ETag"] = _etag(body)
        if exchange.shows is not None and exchange.key and len(body) <= LARGEST_ANSWER_BYTES:
            self._keep(exchange, exchange.shows, exchange.key, response)
        if not any(name in request.environ for name in _CONDITIONS):
            return response
        response.make_conditional(request)
        if response.status_code == 412:
            return respond(_CHANGED)
        return response

    @property
    def is_current(self) -> bool:
        """Whether changes would have been heard of."""
        return time.monotonic() < self._heard_until

    def heard(self) -> None:
        """The listening connection works; what changed before this has been told."""
        self._heard_at = time.monotonic()
        self._heard_until = self._heard_at + HEARD_SECONDS

    def lost(self) -> None:
        """Nothing is heard any more."""
        self._heard_until = float("-inf")

    def changed(self, mart: str) -> None:
        """Answers that show this mart are no more, and those being made now won't be kept."""
        with self._lock:
            self.generation += 1
            self._changed[mart] = self.generation

    def forget(self) -> None:
        """The same for every answer."""
        with self._lock:
            self.generation += 1
            self._all_changed = self.generation
            self._changed.clear()
            self._kept.clear()
            self.bytes = 0

    def _last_known(self, known: Known, exchange: Exchange) -> Known | None:
        """Nothing is heard: what is known counts only if the database does not answer either."""
        if time.monotonic() > self._heard_at + self._stale_seconds or not known.has_freshness:
            return None
        exchange.last_known = known
        return known.as_stale() if self._circuit.is_open else None

    def _is_unchanged(self, marts: tuple[str, ...], generation: int) -> bool:
        if generation < self._all_changed:
            return False
        changed = self._changed
        return all(changed.get(mart, 0) <= generation for mart in marts)

    def _keep(
        self, exchange: Exchange, marts: tuple[str, ...], key: tuple[str, ...], response: Response
    ) -> None:
        body = response.get_data()
        fields = [(n, v) for n, v in response.headers.items() if n.lower() not in _NOT_KEPT]
        known = Known(
            body=body,
            etag=response.headers["ETag"],
            headers=private([*fields, _HIT]),
            validators=private([_HIT, *(field for field in fields if field[0].lower() in _OF_304)]),
            marts=marts,
            generation=exchange.generation,
            made_at=time.time(),
            ends_at=_end(body, exchange.zone),
        )
        with self._lock:
            # A deployment or a change since the read began may not show in what was read.
            if not self.is_current or key[0] != self._catalogue.known_hash:
                return
            if not self._is_unchanged(marts, exchange.generation):
                return
            before = self._kept.pop(key, None)
            self.bytes += known.size - (before.size if before else 0)
            self._kept[key] = known
            while self.bytes > self._most_bytes and self._kept:
                _, oldest = self._kept.popitem(last=False)
                self.bytes -= oldest.size


@functools.lru_cache(maxsize=4096)
def _canonical(query: str) -> str:
    """The same parameters in any order are one query."""
    return "&".join(sorted(query.split("&")))


def _end(body: bytes, zone: str) -> float:
    """When the clock changes the answer: a mart becomes late, or a window without data moves on."""
    now = datetime.now(timezone.utc)
    tomorrow = now.astimezone(ZoneInfo(zone)).date() + timedelta(days=1)
    ends = [datetime.combine(tomorrow, datetime.min.time(), ZoneInfo(zone))]
    for match in _BLOCK.finditer(body):
        late_after = _late_after(match.group())
        if late_after and late_after >= now:
            ends.append(late_after)
    return min(ends).timestamp()


def _as_stale(block: bytes, now: datetime) -> bytes:
    late_after = _late_after(block)
    if late_after and late_after < now:
        block = _FRESH.sub(rb'\1"late"', block)
    return _NOT_STALE.sub(rb"\1true", block)


def _late_after(block: bytes) -> datetime | None:
    """When a freshness block's mart becomes late, as freshness.instant writes it."""
    match = _LATE_AFTER.search(block)
    if match is None:
        return None
    return datetime.strptime(match.group(1).decode(), "%Y-%m-%dT%H:%M:%S.%f%z")


def _etag(body: bytes) -> str:
    return f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
