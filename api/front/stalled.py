"""Ends connections whose caller has taken nothing for a minute: each can hold a thread for ever."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import structlog

STALLED_SECONDS = 60
_TRIES = 300
_TRY_SECONDS = 0.1
_DESCRIPTORS = Path("/proc/self/fd")

log = structlog.get_logger()


def end_stalled() -> None:
    """Begin to, in a thread: the server opens its socket only after the app is made.

    Linux alone can; elsewhere a caller's connection is as patient as the system is.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT") and _DESCRIPTORS.is_dir():
        threading.Thread(target=_bind_soon, name="stalled", daemon=True).start()


def bind_listeners() -> int:
    """Bound the patience of this process's listening sockets, which accepted ones inherit.

    Gives back how many there are.
    """
    count = 0
    for descriptor in _DESCRIPTORS.iterdir():
        try:
            with socket.fromfd(int(descriptor.name), socket.AF_INET, socket.SOCK_STREAM) as found:
                if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.setsockopt(
                        socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_SECONDS * 1000
                    )
                    count += 1
        except OSError:
            continue  # No socket, or closed by now.
    return count


def _bind_soon() -> None:
    for _ in range(_TRIES):
        if bind_listeners():
            return
        time.sleep(_TRY_SECONDS)
    log.warning("no listening socket was found: callers that take nothing keep their connections")
