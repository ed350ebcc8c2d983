"""A real HTTP sink for alerts on 127.0.0.1, which can refuse and hang."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "kX9secretToken"


class Sink(ThreadingHTTPServer):
    """Keeps what was posted; `status` is its answer, `hangs` none at all, `slow` a wait first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.hangs = False
        self.slow_seconds = 0.0
        self.asked = 0
        self.taken: list[dict[str, Any]] = []
        self.release = threading.Event()

    @property
    def url(self) -> str:
        """Its address for Apprise, with a password that nobody should see."""
        return f"json://operator:{SECRET}@127.0.0.1:{self.server_address[1]}/{SECRET}"

    @property
    def titles(self) -> list[str]:
        """What it took, by title."""
        return [message["title"] for message in self.taken]

    def wait_until_asked(self, count: int, seconds: float = 30) -> None:
        """Proof that somebody tried to deliver."""
        deadline = time.monotonic() + seconds
        while self.asked < count:
            assert time.monotonic() < deadline, f"asked {self.asked} times, not {count}"
            time.sleep(0.02)


class _Handler(BaseHTTPRequestHandler):
    server: Sink

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        if self.server.hangs:
            # A byte now and then, so that no library's own timeout ends it.
            self.send_response(200)
            self.end_headers()
            while not self.server.release.wait(0.5):
                try:
                    self.wfile.write(b" ")
                    self.wfile.flush()
                except OSError:
                    return
            return
        time.sleep(self.server.slow_seconds)
        if self.server.status == 200:
            self.server.taken.append(body)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


@contextmanager
def running_sink() -> Iterator[Sink]:
    """A sink that listens until the end."""
    sink = Sink()
    thread = threading.Thread(target=sink.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        sink.release.set()
        sink.shutdown()
        sink.server_close()
        thread.join(5)
