"""What this server has done, as Prometheus reads it; all worker processes count together.

Each worker writes its figures to files of a slot of its own. A slot is held by a lock, so that the
worker that takes the place of a dead one counts on from where that one stopped. The files have
their full size from the start: a page of memory that a full disk has no room for ends a process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DURATION = "oversight_http_request_duration_seconds"
OTHER = "(other)"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
_MOST_CHILDREN = 1000
_FILE_BYTES = 1 << 20
_FILES = ("counter", "histogram", "gauge_livesum")
_MOST_SLOTS = 1000

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long requests of one route took since the server's start, in seconds."""

    requests: int
    p50: float
    p95: float
    p99: float


class Metrics:
    """The figures of one process, or with `folder` of all processes that share it."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder if folder is not None and _share(folder) else None
        self._own = own = CollectorRegistry()
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._requests = Counter(
            "oversight_http_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=own,
        )
        self._seconds = Histogram(
            DURATION, "Time until the answer was sent.", ["route"], buckets=SECONDS, registry=own
        )
        self.problems = Counter(
            "oversight_http_problems",
            "Answers that are a problem document, by the last part of its type.",
            ["problem"],
            registry=own,
        )
        self.in_flight = _gauge("oversight_http_requests_in_flight", "Requests in hand.", own)
        self.workers = _gauge("oversight_http_workers", "Processes that answer.", own)
        self.pool_size = _gauge("oversight_pool_connections_max", "Connections at most.", own)
        self.pool_in_use = _gauge("oversight_pool_connections_in_use", "Connections in use.", own)
        self.pool_waiting = _gauge(
            "oversight_pool_requests_waiting", "Requests that wait for a connection.", own
        )
        self.answers = Counter(
            "oversight_answer_cache_requests",
            "Reads by what the cache of answers gave: hit, miss, or bypass while it hears nothing.",
            ["result"],
            registry=own,
        )
        self.answers_bytes = _gauge("oversight_answer_cache_bytes", "Size of known answers.", own)
        self.refusals = Counter(
            "oversight_rate_limit_refusals", "Requests over a limit.", ["tier"], registry=own
        )
        self.dropped_lines = Counter(
            "oversight_log_lines_dropped", "Lines of the log that could not be written.",
            registry=own,
        )  # fmt: skip
        self.workers.set(1)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        key = (route, method, status)
        found = self._children.get(key)
        if found is None:
            found = self._child(*key)
        requests, durations = found
        requests.inc()
        durations.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """The figures of all processes."""
        if self._folder is None:
            yield from self._own.collect()
            return
        shared = CollectorRegistry()
        MultiProcessCollector(shared, path=str(self._folder))  # type: ignore[no-untyped-call]
        yield from shared.collect()

    def latency(self) -> dict[str, Latency]:
        """The latency of each route, as `histogram_quantile` would give it."""
        buckets: dict[str, dict[float, float]] = {}
        for metric in self.collect():
            for sample in metric.samples:
                if sample.name == f"{DURATION}_bucket":
                    upper = float(sample.labels["le"])
                    buckets.setdefault(sample.labels["route"], {})[upper] = sample.value
        return {
            route: Latency(
                requests=int(counts[float("inf")]),
                p50=_quantile(0.5, counts),
                p95=_quantile(0.95, counts),
                p99=_quantile(0.99, counts),
            )
            for route, counts in sorted(buckets.items())
        }

    def _child(self, route: str, method: str, status: int) -> tuple[Counter, Histogram]:
        """Found once for each set of labels; beyond what can be they count as others."""
        if len(self._children) >= _MOST_CHILDREN:
            route = OTHER
        shown = method if method in _METHODS else OTHER
        child = (self._requests.labels(route, shown, str(status)), self._seconds.labels(route))
        if len(self._children) < _MOST_CHILDREN:
            self._children[(route, method, status)] = child
        return child


class Joined(Collector):
    """Several collectors as one, for `generate_latest`."""

    def __init__(self, *parts: Metrics | Collector) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """All figures of all parts."""
        for part in self._parts:
            yield from part.collect()


def clear(folder: Path) -> None:
    """Forget what an earlier server counted; a folder that cannot be cleared is left alone."""
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)


def _gauge(name: str, text: str, registry: CollectorRegistry) -> Gauge:
    return Gauge(name, text, registry=registry, multiprocess_mode="livesum")


def _share(folder: Path) -> bool:
    """Let this process count in the folder; without one that can be written it counts alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        slot = _take_slot(folder)
        for name in _FILES:
            _make_file(folder / f"{name}_{slot}.db", is_new=name.startswith("gauge"))
    except OSError as error:
        log.warning("each process counts alone", folder=str(folder), error=error.strerror)
        return False
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]
    return True


def _take_slot(folder: Path) -> str:
    """The first that no living process holds; the lock ends with this process."""
    for number in range(_MOST_SLOTS):
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(folder / f"{number}.lock", flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        return str(number)
    raise OSError(0, "no slot is free")


def _make_file(path: Path, *, is_new: bool) -> None:
    """Its whole size on the disk, or an error and no file."""
    if is_new:
        path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _FILE_BYTES)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)


def _quantile(share: float, counts: dict[float, float]) -> float:
    """Within the bucket that it falls into, requests count as evenly spread."""
    wanted = share * counts[float("inf")]
    lower, below = 0.0, 0.0
    for upper, count in sorted(counts.items()):
        if count >= wanted and count > below:
            if upper == float("inf"):
                return lower
            return lower + (upper - lower) * (wanted - below) / (count - below)
        lower, below = upper, count
    return lower
