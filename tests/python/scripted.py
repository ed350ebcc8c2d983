"""A server that answers as its script says, byte for byte, and remembers what it was asked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Part = bytes | float
"""Bytes to send, or seconds to be silent."""


def answer(body: bytes, status: str = "200 OK", **headers: str) -> list[Part]:
    """A whole answer with its length."""
    named = {"Content-Length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in named.items())]
    return ["\r\n".join(lines).encode() + b"\r\n\r\n" + body]


@dataclass
class Scripted:
    """Where it listens, and the requests that came, with the moment of each."""

    url: str
    requests: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [request.split(" ", 2)[1] for request in self.requests]


Script = Sequence[list[Part]] | Callable[[str], list[Part]]


@contextmanager
def scripted(script: Script) -> Iterator[Scripted]:
    """Answers in the order of the script, the last one for ever; or what it says to a request."""
    listener = socket.create_server(("127.0.0.1", 0))
    found = Scripted(f"http://127.0.0.1:{listener.getsockname()[1]}")

    threads: list[threading.Thread] = []

    def answer_all() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=answer_one, args=(connection,)))
                threads[-1].start()

    def answer_one(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            talk(connection)

    def talk(connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            received = connection.recv(65536)
            if not received:
                return
            request += received
        found.requests.append(request.decode())
        found.moments.append(time.monotonic())
        if callable(script):
            parts = script(request.decode())
        else:
            parts = script[min(len(found.requests), len(script)) - 1]
        for part in parts:
            if isinstance(part, bytes):
                connection.sendall(part)
            else:
                time.sleep(part)

    thread = threading.Thread(target=answer_all)
    thread.start()
    try:
        yield found
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for started in [thread, *threads]:
            started.join()
