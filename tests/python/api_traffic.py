"""Readers of a real server beside a writer of its marts, with a check of every single answer."""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from api_warehouse import BASE, ApiWarehouse
from server_process import ServerProcess

from api.front.answers import HEARD_SECONDS
from warehouse import database
from warehouse.errors import DatabaseUnreachableError

PATH = f"{BASE}/daily-metrics?from=2026-09-01&to=2026-09-03"
CALM = f"{BASE}/weekly-partner-performance?from=2026-09-01&to=2026-09-14"
NOTICE_SECONDS = HEARD_SECONDS + 1
"""Who has heard nothing for so long gives no answer from memory; a notification takes 2 ms."""
PAUSE_SECONDS = 0.03
SIGN = {"alpha": 1, "beta": -1}

_REFRESH = """
update reporting.daily_metrics set clicks = %(value)s where organization_id = 'alpha';
update reporting.daily_metrics set clicks = -%(value)s where organization_id = 'beta';
update metadata.data_versions set version = version + 1, last_refresh_at = clock_timestamp()
where model = 'daily_metrics'
"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one request got; `status` 0 is a connection that was ended."""

    asked_at: float
    seconds: float
    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def is_stale(self) -> bool:
        """Whether it says that it is the last one known."""
        return self.status == 200 and bool(self.body["freshness"]["is_stale"])

    @property
    def is_known(self) -> bool:
        """Whether it was given from memory."""
        return self.headers.get("cache-status", "").startswith("oversight; hit")


@dataclass
class Traffic:
    """Four readers of two organizations; `wrong` is what no answer may be."""

    server: ServerProcess
    warehouse: ApiWarehouse
    keys: dict[str, str]
    answers: list[Answer] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    may_be_cut: bool = False
    """Whether a connection may end without an answer, as those of a killed worker do."""
    _written: list[tuple[float, int]] = field(default_factory=lambda: [(0.0, 0)])
    _begun: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self, *, refresh_seconds: float = 0.1) -> Iterator[Traffic]:
        """Readers and writer at work; afterwards no answer may have been wrong."""
        ((self._begun,),) = self.warehouse.run(
            "select max(abs(clicks)) from reporting.daily_metrics"
        )
        self.refresh()
        threads = [threading.Thread(target=self._read, args=(name,)) for name in SIGN for _ in "ab"]
        threads.append(threading.Thread(target=self._write, args=(refresh_seconds,)))
        for thread in threads:
            thread.start()
        try:
            self.until(lambda new: any(answer.is_known for answer in new))
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        assert not self.wrong, self.wrong[:3]

    def refresh(self) -> None:
        """Write the next value and tell it, as a refresh does."""
        self._begun += 1
        value = self._begun
        connection = database.connect(self.warehouse.settings)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(_REFRESH, {"value": value})
        finally:
            connection.close()
        self._written.append((time.monotonic(), value))

    def until(self, holds: Callable[[list[Answer]], Any], seconds: float = 30) -> float:
        """Wait until it holds for the answers from now on; gives back how long that took."""
        started, first = time.monotonic(), len(self.answers)
        while not holds(self.answers[first:]):
            assert not self.wrong, self.wrong[:3]
            assert time.monotonic() - started < seconds, self.answers[-3:]
            time.sleep(0.02)
        return time.monotonic() - started

    def recovers(self, name: str) -> None:
        """New values are served, and from memory too, within 3 times 10 seconds; says how soon."""
        began = self._begun
        seconds = self.until(lambda new: len(_fresh(new, began)) >= 8)
        self.until(lambda new: any(answer.is_known and not answer.is_stale for answer in new))
        tell(f"{name}: served anew after {seconds:.1f} s")

    def ask(self, key: str, path: str = PATH) -> Answer:
        """One request on a connection of its own."""
        asked_at = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=40)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
            response = connection.getresponse()
            status, text = response.status, response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
        except (OSError, http.client.HTTPException):
            status, text, headers = 0, b"null", {}
        finally:
            connection.close()
        return Answer(
            asked_at=asked_at,
            seconds=time.monotonic() - asked_at,
            status=status,
            headers=headers,
            body=json.loads(text),
        )

    def _read(self, organization: str) -> None:
        while not self._over.is_set():
            least = self._value_at(time.monotonic() - NOTICE_SECONDS)
            answer = self.ask(self.keys[organization])
            if problem := self._problem(answer, organization, least):
                self.wrong.append(problem)
            self.answers.append(answer)
            time.sleep(PAUSE_SECONDS)

    def _problem(self, answer: Answer, organization: str, least: int) -> str | None:
        """What is wrong with an answer; `least` was committed long enough before it was asked."""
        if answer.status == 0:
            return None if self.may_be_cut else "the connection was ended"
        if answer.status == 503:
            return None if int(answer.headers["retry-after"]) > 0 else "no Retry-After"
        if answer.status != 200:
            return f"status {answer.status}: {answer.body}"
        values = {row["clicks"] * SIGN[organization] for row in answer.body["data"]}
        if len(values) != 1 or len(answer.body["data"]) != 9:
            return f"rows of several versions or organizations: {answer.body}"
        (value,) = values
        if value > self._begun or value < 0:
            return f"{value} was never written"
        if not answer.is_stale and value < least:
            return f"{value} was served {NOTICE_SECONDS} s after {least} was committed"
        return None

    def _value_at(self, moment: float) -> int:
        return max(value for at, value in self._written if at <= moment)

    def _write(self, refresh_seconds: float) -> None:
        while not self._over.wait(refresh_seconds):
            # What ends with the server is tried anew; whether it was committed is then unknown.
            with contextlib.suppress(psycopg2.Error, DatabaseUnreachableError):
                self.refresh()


def tell(text: str) -> None:
    """A figure for people; `pytest -s` shows it."""
    sys.stdout.write(f"\n{text}\n")


def _fresh(answers: list[Answer], began: int) -> list[Answer]:
    """Those that show a value written later on."""
    return [
        answer
        for answer in answers
        if answer.status == 200
        and not answer.is_stale
        and abs(answer.body["data"][0]["clicks"]) > began
    ]
