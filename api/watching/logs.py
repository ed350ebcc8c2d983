"""JSON lines on standard error: requests, and what the server says of itself.

Nothing that happens to the log may change an answer: a line that cannot be written at once, because
the disk is full or the reader of a pipe is gone or stands still, is counted and left out.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any

import structlog

_PATIENCE_MS = 20
_PROCESSORS: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
# granian applies this in every process; its own default is plain text on standard output.
SERVER_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {},
    "formatters": {},
    "loggers": {"_granian": {"handlers": [], "propagate": True}},
}


class Lines:
    """A file of whole lines that never raises and never waits for its reader for long.

    A pipe is opened anew, since O_NONBLOCK on a shared one would change it for everyone.
    """

    def __init__(self, descriptor: int | None, on_dropped: Callable[[], object]) -> None:
        self._on_dropped = on_dropped
        self._is_torn = False
        self._is_stuck = False
        self._descriptor = -1 if descriptor is None else descriptor
        self._send: Callable[[memoryview], int] = self._write
        mode = 0 if descriptor is None else os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode):
            self._descriptor = _opened_anew(self._descriptor)
        elif stat.S_ISSOCK(mode):
            peer = socket.socket(fileno=os.dup(self._descriptor))
            self._send = lambda data: peer.send(data, socket.MSG_DONTWAIT)

    def write(self, text: str) -> None:
        """Write one line, or count it as dropped."""
        line = text.encode("utf-8", "backslashreplace")
        data = memoryview(b"\n" + line if self._is_torn else line)
        sent = 0
        try:
            while sent < len(data):
                sent += self._patiently(data[sent:])
        except OSError:
            self._on_dropped()
        if sent:
            # Half a line stays where a disk is full: the next one begins anew.
            self._is_torn = sent < len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def _patiently(self, data: memoryview) -> int:
        """Once a reader has not made room in time, no line waits until it has."""
        try:
            sent = self._send(data)
        except BlockingIOError:
            if self._is_stuck:
                raise
            self._is_stuck = True
            room = select.poll()
            room.register(self._descriptor, select.POLLOUT)
            room.poll(_PATIENCE_MS)
            sent = self._send(data)
        self._is_stuck = False
        return sent

    def _write(self, data: memoryview) -> int:
        return os.write(self._descriptor, data)


def configure(on_dropped: Callable[[], object] = lambda: None) -> None:
    """Send structlog and the standard library's loggers through one JSON renderer.

    `on_dropped` is called for each line that could not be written.
    """
    # Without a standard error Python has none either, and the number 2 may be anybody's file.
    lines: Any = Lines(None if sys.stderr is None else 2, on_dropped)
    structlog.configure(
        processors=[
            *_PROCESSORS,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(lines),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_PROCESSORS,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def _opened_anew(descriptor: int) -> int:
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return descriptor  # No /proc, another user's pipe, or no reader any more.
