"""How much one caller may ask: by tier, over all processes; and how often a stranger may fail."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from limits.errors import StorageError
from limits.storage import storage_from_string

from api.access.counters import CountersError, SharedCounters
from api.problems import ApiError, ProblemError
from warehouse.settings import RateLimit

if TYPE_CHECKING:
    from api.access.auth import Principal

MINUTE = 60.0
_REMEMBERED_WINDOWS = 20_000
_UNCOUNTED_SECONDS = 5.0
_REDIS_SECONDS = 0.2
_REDIS_PAUSE_SECONDS = 1.0

log = structlog.get_logger()


class Rates:
    """Counts requests in fixed windows that begin with a caller's first one.

    In a file of this machine, or in Redis where several share the load. While Redis is away each
    machine counts by itself; when nothing can count, requests pass and the log says so.
    """

    def __init__(self, limits: Mapping[str, RateLimit], *, file: Path, url: str | None) -> None:
        try:
            self._counters = SharedCounters(file)
        except CountersError as error:
            raise ApiError(
                f"requests can't be counted: {error}; let OVERSIGHT_HOME be a folder to write to"
            ) from error
        self._redis = _Redis(url) if url else None
        self._uncounted_until = 0.0
        self._tiers = {
            tier: (
                limit,
                [
                    ("RateLimit-Policy", f'"{tier}";q={limit.amount};w={limit.seconds}'),
                    ("RateLimit-Limit", str(limit.amount)),
                ],
            )
            for tier, limit in limits.items()
        }

    def count(self, principal: Principal, headers: list[tuple[str, str]]) -> None:
        """Count a request and say where its caller stands; a problem (429) when it is too many."""
        tier = principal.tier
        limit, fixed = self._tiers[tier]
        if self._uncounted_until and time.monotonic() < self._uncounted_until:
            return
        try:
            count, ends = self._hit(principal.id, limit.seconds)
        except CountersError as error:
            # Nobody waits again for what is stuck.
            self._uncounted_until = time.monotonic() + _UNCOUNTED_SECONDS
            log.error("requests pass uncounted", error=str(error))
            return
        left = max(0, limit.amount - count)
        reset = max(1, math.ceil(ends - time.time()))
        headers += fixed
        headers += [
            ("RateLimit", f'"{tier}";r={left};t={reset}'),
            ("RateLimit-Remaining", str(left)),
            ("RateLimit-Reset", str(reset)),
        ]
        if count > limit.amount:
            raise _too_many(
                f"the tier {tier} may ask {limit.amount} times in {limit.seconds} seconds", reset
            )

    def _hit(self, caller: str, seconds: int) -> tuple[int, float]:
        if self._redis is not None:
            counted = self._redis.hit(caller, seconds)
            if counted is not None:
                return counted
        return self._counters.hit(caller, seconds)


class _Redis:
    """The same windows in Redis; None while it is away, which is asked once a second."""

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = dict.fromkeys(
            ("socket_timeout", "socket_connect_timeout"), _REDIS_SECONDS
        )
        self._storage = storage_from_string(
            url, wrap_exceptions=True, key_prefix="oversight", **options
        )
        self._ends: dict[str, float] = {}
        self._away_until = -math.inf

    def hit(self, caller: str, seconds: int) -> tuple[int, float] | None:
        """Count, and give back the count and when its window ends (Unix time)."""
        if time.monotonic() < self._away_until:
            return None
        try:
            count = int(self._storage.incr(caller, seconds))  # type: ignore[arg-type]
            ends = self._ends.get(caller, 0.0)
            if count == 1 or ends <= time.time():
                ends = float(self._storage.get_expiry(caller))  # type: ignore[arg-type]
        except StorageError as error:
            self._away_until = time.monotonic() + _REDIS_PAUSE_SECONDS
            log.error("each machine counts requests by itself", error=type(error).__name__)
            return None
        if len(self._ends) > _REMEMBERED_WINDOWS:
            self._ends.clear()
        self._ends[caller] = ends
        return count, ends


class Failures:
    """How many credentials that are none an address may try in a minute, in this process.

    An IPv6 address stands for its /64. Credentials that were good before are never held up.
    """

    def __init__(self, per_minute: int) -> None:
        self._most = per_minute
        self._lock = threading.Lock()
        self._ends = 0.0
        self._counts: dict[str, int] = {}

    def check(self, address: str) -> None:
        """A problem (429) when the address has failed too often."""
        now = time.monotonic()
        if now < self._ends and self._counts.get(_network(address), 0) >= self._most:
            raise _too_many(
                "too many credentials from this address were refused",
                max(1, math.ceil(self._ends - now)),
            )

    def count(self, address: str) -> None:
        """One more failure."""
        now = time.monotonic()
        network = _network(address)
        with self._lock:
            if now >= self._ends or len(self._counts) >= _REMEMBERED_WINDOWS:
                self._ends = now + MINUTE
                self._counts = {}
            self._counts[network] = self._counts.get(network, 0) + 1


def _too_many(detail: str, seconds: int) -> ProblemError:
    return ProblemError(429, "rate-limited", detail, headers={"Retry-After": str(seconds)})


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
