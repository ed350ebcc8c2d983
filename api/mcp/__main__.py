"""`python -m api.mcp stdio` or `.. http HOST PORT [NAME...]`: what `oversight mcp` becomes."""

from __future__ import annotations

import io
import logging
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.stdio import stdio_server

from api.mcp import exact, http
from api.mcp.callers import Callers
from api.mcp.server import make_server
from api.mcp.upstream import Upstream
from api.watching import logs
from warehouse.errors import OversightError, SettingsError
from warehouse.settings import Settings, load_settings


def main(arguments: Sequence[str]) -> int:
    """Serve until the client goes or a signal comes; 1 with a message when it can't start."""
    try:
        settings = load_settings()
        kind, *rest = arguments
        if kind == "http":
            host, port, *names = rest
            listener = http.bind(host, int(port))
            _configure_logs()
            anyio.run(_serve_http, settings.reached_api_url, listener, host, names)
        else:
            token = _own_key(settings)
            wire = _claimed_stdout()
            _configure_logs()
            anyio.run(_serve_stdio, settings.reached_api_url, token, wire)
    except OversightError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def _serve_stdio(url: str, token: str, wire: io.TextIOWrapper) -> None:
    async with Upstream(url) as upstream:
        server = make_server(upstream, Callers(upstream), lambda _: token)
        async with stdio_server(stdout=anyio.wrap_file(wire)) as (read, write):
            await server.run(read, write, server.create_initialization_options())


async def _serve_http(url: str, listener: socket.socket, bound: str, names: Sequence[str]) -> None:
    def token(context: ServerRequestContext[Any, Any]) -> str:
        return http.token_of(context.request.headers) or "" if context.request else ""

    async with Upstream(url) as upstream:
        callers = Callers(upstream)
        server = make_server(upstream, callers, token)
        application = http.application(server, callers, bound=bound, hosts=names)
        await http.serve(application, listener)


class _Wire(io.TextIOWrapper):
    """Standard output as the protocol needs it: a message per line, its numbers restored."""

    def write(self, text: str) -> int:
        return super().write(exact.restore_text(text))


def _claimed_stdout() -> io.TextIOWrapper:
    """The protocol alone owns standard output; what else is printed goes to standard error."""
    private = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return _Wire(private, encoding="utf-8", newline="\n")


def _own_key(settings: Settings) -> str:
    if settings.api_key is None:
        raise SettingsError(
            "there is no key to call the API with: set OVERSIGHT_API_KEY, or OVERSIGHT_API_KEY_FILE"
            " to a file that holds it; `oversight key create NAME --role agent` makes one"
        )
    return settings.api_key


def _configure_logs() -> None:
    logs.configure()
    # They would log every request, with what was asked.
    for name in ("httpx2", "httpcore2", "mcp", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
