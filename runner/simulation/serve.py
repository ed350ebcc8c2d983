"""The simulated reporting engine over HTTP, with faults on request; for trials and tests only.

    GET  /v1/<table>[.jsonl|.csv]?since=&until=&from=&to=&limit= and cursor= or page=
    GET  /clock    POST /clock    {"now": "2026-11-02T00:00:00Z"}
    GET  /faults   POST /faults   {"500s": 0.3, "cut": [2, 5]}

An answer is {"rows": [..], "next_cursor": .., "as_of": .., "window": {"from": .., "to": ..}}; as
JSON Lines or CSV it holds the rows alone, and the rest stands in headers X-Next-Cursor and so on.
"""

from __future__ import annotations

import base64
import csv
import hmac
import io
import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from runner.simulation.engine import TABLES, Asked, Clock, Engine
from runner.simulation.faults import Faults, parse_fault
from runner.simulation.specification import Simulation, SimulationError

URL_VARIABLE = "OVERSIGHT_NATIVE_URL"
TOKEN_VARIABLE = "OVERSIGHT_NATIVE_TOKEN"
_KINDS = {"": "application/json", "jsonl": "application/x-ndjson", "csv": "text/csv"}
_MAX_LIMIT = 10_000
_TRICKLES = 20


class EngineServer(ThreadingHTTPServer):
    """Listens on 127.0.0.1; port 0 takes a free one. Without a token anybody may ask."""

    daemon_threads = True

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        faults: Faults,
        *,
        token: str | None = None,
        port: int = 0,
        slow_seconds: float = 5.0,
    ) -> None:
        self.engine, self.clock, self.faults = engine, clock, faults
        self.token, self.slow_seconds = token, slow_seconds
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise SimulationError(
                f"can't listen on port {port}: {error.strerror}; give another --port"
            ) from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing of a client that went away: that is what some of the faults are for."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


def serve_until_interrupted(
    spec: Simulation,
    *,
    port: int,
    faults: Sequence[str],
    clock: datetime | None,
    speed: float,
    say: Callable[[str], None],
) -> None:
    """Serve an engine until SIGINT or SIGTERM, and say how to pull from it.

    Its token is what a pull would send; where none is set, a new one is made and said.
    """
    found = Faults(tuple(parse_fault(text) for text in faults))
    token = os.environ.get(TOKEN_VARIABLE)
    engine = Engine(spec)
    start = clock.replace(tzinfo=timezone.utc) if clock else None
    start = start or (engine.start() if speed else engine.end())
    server = EngineServer(
        engine, Clock(start, speed), found, token=token or secrets.token_urlsafe(24), port=port
    )
    say(f"the engine answers at {server.url}, its clock is at {_iso(start)}; pull from it with:")
    say(f"  export {URL_VARIABLE}={server.url}")
    if token is None:
        say(f"  export {TOKEN_VARIABLE}={server.token}")
    say("  oversight pull oversight")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(0.1)
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: EngineServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def log_message(self, *_: Any) -> None:
        """Nothing: who asks has a log of his own."""

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        parts = urlsplit(self.path)
        try:
            if not self._is_allowed():
                self._send(401, {"error": "the token is missing or wrong"})
            elif parts.path == "/faults":
                if self.command == "POST":
                    self.server.faults.switch(json.loads(content))
                self._send(200, self.server.faults.seen())
            elif parts.path == "/clock":
                if self.command == "POST":
                    self.server.clock.turn(_moment(json.loads(content)["now"]))
                self._send(200, {"now": _iso(self.server.clock.now())})
            else:
                self._table(parts.path, dict(parse_qsl(parts.query)))
        except (SimulationError, ValueError, KeyError, TypeError) as error:
            self._send(400, {"error": f"{type(error).__name__}: {error}"})
        except ConnectionError:
            self.close_connection = True

    def _is_allowed(self) -> bool:
        token = self.server.token
        said = self.headers.get("Authorization") or ""
        return token is None or hmac.compare_digest(said.encode(), f"Bearer {token}".encode())

    def _table(self, path: str, parameters: dict[str, str]) -> None:
        name, _, kind = path.removeprefix("/v1/").partition(".")
        if name not in TABLES or kind not in _KINDS or not path.startswith("/v1/"):
            self._send(404, {"error": f"there is no {path}"})
            return
        faults = self.server.faults
        struck = faults.count()
        if "500s" in struck:
            faults.note("500s")
            self._send(500, {"error": "something is broken, on request"})
            return
        if "429s" in struck:
            # By turns as seconds and as a date, which counts from the next full second.
            soon = datetime.now(timezone.utc) + timedelta(seconds=2)
            after = "1" if faults.note("429s") % 2 else format_datetime(soon, usegmt=True)
            self._send(429, {"error": "too many requests"}, {"Retry-After": after})
            return
        asked = _asked(parameters, self.server.clock)
        shown = asked
        if "repeat" in struck and asked.offset >= asked.limit:
            faults.note("repeat")
            shown = _at(asked, asked.offset - asked.limit)
        content, headers = self._answer(name, kind, shown)
        if "slow" in struck:
            self._slowly(faults.note("slow"), content, headers)
        elif "cut" in struck and len(content) > 1:
            self._cut(faults.note("cut"), content, headers)
        else:
            self._start(200, {"Content-Length": str(len(content)), **headers})
            self.wfile.write(content)

    def _answer(self, name: str, kind: str, asked: Asked) -> tuple[bytes, dict[str, str]]:
        engine = self.server.engine
        rows, has_more = engine.rows(name, asked)
        first, last = engine.window(asked)
        cursor = _cursor(_at(asked, asked.offset + asked.limit)) if has_more else None
        as_of = _iso(asked.moment)
        headers = {"Content-Type": _KINDS[kind]}
        if kind == "":
            window = {"from": str(first), "to": str(last)}
            body = {"rows": rows, "next_cursor": cursor, "as_of": as_of, "window": window}
            return json.dumps(body).encode(), headers
        headers |= {"X-As-Of": as_of, "X-Window-From": str(first), "X-Window-To": str(last)}
        if cursor:
            headers["X-Next-Cursor"] = cursor
        if kind == "jsonl":
            return "".join(json.dumps(row) + "\n" for row in rows).encode(), headers
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, engine.columns(name), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode(), headers

    def _slowly(self, number: int, content: bytes, headers: Mapping[str, str]) -> None:
        """By turns a long silence before the answer, and one that trickles in."""
        if number % 2:
            time.sleep(self.server.slow_seconds)
        self._start(200, {"Content-Length": str(len(content)), **headers})
        if number % 2:
            self.wfile.write(content)
            return
        step = -(-len(content) // _TRICKLES)
        for start in range(0, len(content), step):
            time.sleep(self.server.slow_seconds / _TRICKLES)
            self.wfile.write(content[start : start + step])

    def _cut(self, number: int, content: bytes, headers: Mapping[str, str]) -> None:
        """Half of the answer, by turns shorter than its length and without its last chunk."""
        half = content[: len(content) // 2]
        self.close_connection = True
        if number % 2:
            self._start(200, {"Content-Length": str(len(content)), **headers})
            self.wfile.write(half)
        else:
            self._start(200, {"Transfer-Encoding": "chunked", **headers})
            self.wfile.write(f"{len(half):x}\r\n".encode() + half + b"\r\n")

    def _send(self, status: int, content: object, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        length = str(len(body))
        kind = {"Content-Type": _KINDS[""], "Content-Length": length}
        self._start(status, {**kind, **(headers or {})})
        self.wfile.write(body)

    def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _asked(parameters: Mapping[str, str], clock: Clock) -> Asked:
    """What the parameters ask for; a cursor keeps to the moment of its first page."""
    limit = min(int(parameters.get("limit", 1000)), _MAX_LIMIT)
    moment, offset = clock.now(), (int(parameters.get("page", 1)) - 1) * limit
    if "cursor" in parameters:
        said, offset = json.loads(base64.urlsafe_b64decode(parameters["cursor"]))
        moment = _moment(said)
    if "until" in parameters:
        moment = min(moment, _moment(parameters["until"]))
    if limit < 1 or offset < 0:
        raise ValueError("limit and page count from 1")
    first, last = (
        date.fromisoformat(parameters[name]) if name in parameters else None
        for name in ("from", "to")
    )
    return Asked(
        moment=moment,
        since=_moment(parameters["since"]) if "since" in parameters else None,
        first_day=first,
        last_day=last,
        offset=offset,
        limit=limit,
    )


def _at(asked: Asked, offset: int) -> Asked:
    return replace(asked, offset=offset)


def _cursor(asked: Asked) -> str:
    said = json.dumps([_iso(asked.moment), asked.offset])
    return base64.urlsafe_b64encode(said.encode()).decode()


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _iso(moment: datetime) -> str:
    return f"{moment.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
