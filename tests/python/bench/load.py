"""The load programs: wrk for what speaks HTTP, pgbench for PostgreSQL itself."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

CONNECTIONS = 8
THREADS = 2
_SCRIPT = Path(__file__).with_name("questions.lua")
_RATE = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_FAILED = re.compile(r"^number of failed transactions: ([0-9]+)", re.MULTILINE)
_COUNT = re.compile(r"^number of transactions actually processed: ([0-9]+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One round: answers per second, milliseconds until an answer, bytes of an answer."""

    rate: float
    processor: float = 0
    """Milliseconds of processor per answer, of all processes: server, PostgreSQL, load program."""
    requests: int
    errors: int
    p50: float
    p95: float
    p99: float
    size: float


@dataclass(frozen=True)
class Asked:
    """One HTTP request."""

    path: str
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def line(self) -> str:
        """The whole request as questions.lua reads it."""
        fields = [f"GET {self.path} HTTP/1.1", "Host: localhost"]
        return "|".join([*fields, *(f"{name}: {value}" for name, value in self.headers), "", ""])


def run_wrk(address: str, asked: Path, *, seconds: int, start: int) -> Figure:
    """Ask the requests of a file for some seconds, from a line on."""
    done = subprocess.run(
        [
            "wrk", f"--threads={THREADS}", f"--connections={CONNECTIONS}", "--latency",
            f"--duration={seconds}s", "--timeout=10s", f"--script={_SCRIPT}",
            address, "--", str(asked), str(start),
        ],
        check=False, capture_output=True, text=True, timeout=seconds + 120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found = json.loads(line)
    return Figure(
        rate=found["requests"] / (found["microseconds"] / 1e6),
        requests=found["requests"],
        errors=found["errors"],
        size=found["bytes"] / max(found["requests"], 1),
        **{name: found[name] / 1000 for name in ("p50", "p95", "p99")},
    )


def run_pgbench(command: Sequence[str], log: Path, *, seconds: int) -> Figure:
    """Run a script of `command` for some seconds; each twentieth transaction is in the log."""
    for old in log.parent.glob(f"{log.name}.*"):
        old.unlink()
    done = subprocess.run(
        [
            *command, "--protocol=prepared", f"--client={CONNECTIONS}", f"--jobs={THREADS}",
            f"--time={seconds}", "--no-vacuum", "--log", f"--log-prefix={log}",
            "--sampling-rate=0.05",
        ],
        check=False, capture_output=True, text=True, timeout=seconds + 120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    waits = sorted(
        int(line.split()[2]) / 1000
        for part in log.parent.glob(f"{log.name}.*")
        for line in part.read_text().splitlines()
    )
    return Figure(
        rate=float(_one(_RATE, done.stdout)),
        requests=int(_one(_COUNT, done.stdout)),
        errors=int(_one(_FAILED, done.stdout)),
        size=0,
        **{f"p{share}": waits[len(waits) * share // 100] for share in (50, 95, 99)},
    )


def with_processor(measure: Callable[[int], Figure], seconds: int, home: Path) -> Figure:
    """A round with what it cost, which a busy machine changes less than it does the rate."""
    postmaster = int((home / "data" / "postmaster.pid").read_text().split()[0])
    before = _processor_seconds(postmaster)
    figure = measure(seconds)
    used = _processor_seconds(postmaster) - before
    return replace(figure, processor=1000 * used / max(figure.requests, 1))


def _processor_seconds(postmaster: int) -> float:
    """Of this process's children, living and ended, and of PostgreSQL's."""
    own, server = psutil.Process(), psutil.Process(postmaster)
    found = own.cpu_times()
    total = float(found.children_user + found.children_system)
    for process in (*own.children(recursive=True), server, *server.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            found = process.cpu_times()
            total += found.user + found.system + found.children_user + found.children_system
    return total


def _one(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    assert match, text
    return match.group(1)
