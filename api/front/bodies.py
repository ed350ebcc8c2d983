"""The bodies of requests, read before anything is done, by few threads of a process at a time."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

from api.problems import unavailable

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

MOST_BYTES = 16 * 1024
OF_STRANGERS, OF_CALLERS = 2, 4


class Bodies:
    """Callers who send half a body and wait hold up those who send one, and no reader.

    The server's threads wait for a body without end, and there are eight in a process. Strangers
    (at the login) and callers with a key wait apart.
    """

    def __init__(self) -> None:
        self._strangers = threading.BoundedSemaphore(OF_STRANGERS)
        self._callers = threading.BoundedSemaphore(OF_CALLERS)

    def read(self, environ: WSGIEnvironment, *, is_stranger: bool) -> None:
        """Put the whole body into the environment; a problem (503) when too many are being read.

        What is longer than any body may be is left alone: whoever wants it refuses it.
        """
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return
        free = self._strangers if is_stranger else self._callers
        if not free.acquire(blocking=False):
            raise unavailable(
                "busy", "too many bodies are being read; try again", retry_after_seconds=1
            )
        try:
            environ["wsgi.input"] = io.BytesIO(_all_of(environ))
        finally:
            free.release()


def _all_of(environ: WSGIEnvironment) -> bytes:
    left = min(int(environ.get("CONTENT_LENGTH") or MOST_BYTES), MOST_BYTES) + 1
    parts = []
    while left > 0 and (part := environ["wsgi.input"].read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
