"""The production server: granian, several worker processes, one port."""

from __future__ import annotations

import functools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from granian.constants import Interfaces
from granian.server import Server

from api.app import create_app, rates_of, sessions_of
from api.front import stalled
from api.problems import ApiError
from api.reporting.paging import signing_key
from api.state import Limits, state_of
from api.watching import logs
from api.watching.metrics import Metrics, clear
from warehouse.errors import OversightError
from warehouse.settings import Settings, load_settings

_STOP_SECONDS = 10
_RESPAWN_SECONDS = 1.0
_WATCH_SECONDS = 1.0


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in hand and return.

    ApiError when the port is taken, or where a worker would fail again and again: no key can sign,
    requests can't be counted, the keys of sessions can't be read.
    """
    sessions_of(settings, signing_key(settings))
    rates_of(settings)
    _check_port(settings)
    logs.configure()
    clear(_metrics_folder(settings))
    server = Server(
        "oversight",
        address=settings.api_host,
        port=settings.api_port,
        interface=Interfaces.WSGI,
        workers=settings.api_workers,
        blocking_threads=Limits().pool_size + Limits().spare_threads,
        respawn_failed_workers=True,
        respawn_interval=_RESPAWN_SECONDS,
        workers_kill_timeout=_STOP_SECONDS,
        websockets=False,
        log_dictconfig=logs.SERVER_LOGGING,
    )
    server.serve(
        target_loader=functools.partial(_worker_app, settings, os.getpid()), wrap_loader=False
    )


def _worker_app(settings: Settings, parent: int) -> Callable[..., Any]:
    """Made in each worker, so that no connection is shared between processes."""
    logs.configure()
    metrics = Metrics(_metrics_folder(settings))
    logs.configure(on_dropped=metrics.dropped_lines.inc)
    threading.Thread(target=_end_with, args=(parent,), name="parent-watch", daemon=True).start()
    app = create_app(settings, metrics=metrics)
    state_of(app).listener.start()
    stalled.end_stalled()
    return app


def _metrics_folder(settings: Settings) -> Path:
    """One for each server of this home; no other can have its port."""
    return settings.home / "metrics" / str(settings.api_port)


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would hold the port for ever, answering with old code."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _check_port(settings: Settings) -> None:
    """Workers share the port by SO_REUSEPORT, so a second server would not notice the first."""
    family = socket.AF_INET6 if ":" in settings.api_host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.api_host, settings.api_port))
        except OSError as error:
            raise ApiError(
                f"can't listen on {settings.api_host} port {settings.api_port}: {error.strerror};"
                " stop what uses it, or set OVERSIGHT_API_PORT to another port"
            ) from error


def main() -> int:
    """`python -m api.server`: what `oversight serve` becomes."""
    try:
        serve(load_settings())
    except OversightError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
