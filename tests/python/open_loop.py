"""A load program of a constant rate that checks what it gets; runs as a process of its own.

    python open_loop.py http://127.0.0.1:8080 QUESTIONS RATE SECONDS     (the key in OPEN_LOOP_KEY)

QUESTIONS is a file of paths. A request is due at its time whether the ones before it are answered
or not, and its wait counts from then. Prints one JSON object: the Outcome.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CONNECTIONS = 8
_TIMEOUT_SECONDS = 10
_MOST_ERRORS = 20


@dataclass(kw_only=True)
class Outcome:
    """What came of it; waits in ms. `seen` has path, last_refresh_at and digest of all answers."""

    requests: int = 0
    p50: float = 0
    p95: float = 0
    p99: float = 0
    longest: float = 0
    errors: list[str] = field(default_factory=list)
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.requests} answers {self.statuses}, {len(self.errors)} errors; ms until an"
            f" answer: p50 {self.p50:.1f}, p95 {self.p95:.1f}, p99 {self.p99:.1f},"
            f" longest {self.longest:.0f}"
        )


def run(address: str, key: str, questions: Path, *, rate: int, seconds: int) -> Outcome:
    """Run the program and give back what it found."""
    done = subprocess.run(
        [sys.executable, __file__, address, str(questions), str(rate), str(seconds)],
        env=os.environ | {"OPEN_LOOP_KEY": key},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return Outcome(**found | {"seen": [tuple(item) for item in found["seen"]]})


def digest_of(rows: Sequence[Any]) -> str:
    """The same for the same rows, their numbers as texts."""
    return hashlib.blake2b(json.dumps(rows).encode(), digest_size=12).hexdigest()


def exact(text: str | bytes) -> Any:
    """JSON with numbers as the texts that they are."""
    return json.loads(text, parse_float=str, parse_int=str)


class _Load:
    def __init__(self, address: str, key: str, paths: Sequence[str], rate: int) -> None:
        parts = urlsplit(address)
        self._place = (parts.hostname or "", parts.port or 80)
        self._key = key
        self._paths = paths
        self._rate = rate
        self._known: dict[tuple[str, bytes], tuple[str, str]] = {}
        self.waits: list[float] = []
        self.errors: list[str] = []
        self.statuses: Counter[int] = Counter()

    def call(self, number: int, start: float, count: int) -> None:
        """One connection: the requests that are its turn."""
        chance = random.Random(number)
        connection = http.client.HTTPConnection(*self._place, timeout=_TIMEOUT_SECONDS)
        newest: dict[str, str] = {}
        tags: dict[str, str] = {}
        for turn in range(count):
            due = start + (turn * CONNECTIONS + number) / self._rate
            time.sleep(max(0.0, due - time.monotonic()))
            path = chance.choice(self._paths)
            headers = {"Authorization": f"Bearer {self._key}"}
            if turn % 4 == 0 and path in tags:
                headers["If-None-Match"] = tags[path]
            try:
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(f"{path}: {error!r}")
                connection.close()
                continue
            self.waits.append(time.monotonic() - due)
            self.statuses[response.status] += 1
            if response.status == 200:
                tags[path] = response.headers["ETag"]
                self._check(path, body, newest)
            elif not (response.status == 304 and "If-None-Match" in headers):
                self.errors.append(f"{path}: {response.status} {body[:200]!r}")
        connection.close()

    def _check(self, path: str, body: bytes, newest: dict[str, str]) -> None:
        mart = path.split("?")[0]
        key = path, hashlib.blake2b(body, digest_size=16).digest()
        if key not in self._known:
            answer = exact(body)
            version = str(answer["freshness"]["last_refresh_at"])
            self._known[key] = version, digest_of(answer["data"])
        version = self._known[key][0]
        if version < newest.get(mart, ""):
            self.errors.append(f"{path}: {version} after {newest[mart]} on one connection")
        newest[mart] = version

    def outcome(self) -> Outcome:
        """All of it."""
        waits = sorted(1000 * wait for wait in self.waits)
        share = {name: waits[int(len(waits) * part)] for name, part in _SHARES}
        return Outcome(
            requests=len(waits),
            longest=waits[-1],
            errors=self.errors[:_MOST_ERRORS],
            seen=[(path, *found) for (path, _), found in self._known.items()],
            statuses={str(status): count for status, count in sorted(self.statuses.items())},
            **share,
        )


_SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def main(address: str, questions: str, rate: str, seconds: str) -> None:
    """As the docstring of this module says."""
    paths = Path(questions).read_text(encoding="utf-8").split()
    load = _Load(address, os.environ["OPEN_LOOP_KEY"], paths, int(rate))
    start = time.monotonic() + 0.2
    count = int(rate) * int(seconds) // CONNECTIONS
    threads = [
        threading.Thread(target=load.call, args=(number, start, count))
        for number in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps(asdict(load.outcome())))


if __name__ == "__main__":
    main(*sys.argv[1:])
