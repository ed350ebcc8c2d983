"""Streamable HTTP: every caller brings a token of their own, and the server keeps no session."""

from __future__ import annotations

import ipaddress
import json
import math
import re
import signal
import socket
import time
from collections.abc import Sequence

import structlog
import uvicorn
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.mcp import exact
from api.mcp.callers import Callers, RefusedError
from api.mcp.problems import refused
from api.mcp.server import CALL_SECONDS
from api.mcp.upstream import UnreachableError
from warehouse.errors import OversightError

PATH = "/mcp"
MOST_BODY_BYTES = 256 * 1024
REFUSALS_PER_MINUTE = 60
"""Of one address (of IPv6 a /64): all are refusals of this adapter's address to the API."""
_MOST_CONNECTIONS = 64
_REFUSALS = RateLimitItemPerMinute(REFUSALS_PER_MINUTE)
_STOP_SECONDS = 5
_BEARER = re.compile(r"Bearer +([A-Za-z0-9._~+/-]{1,4096}=*) *", re.IGNORECASE)
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

log = structlog.get_logger()


def token_of(headers: Headers) -> str | None:
    """The caller's token, None when there is none that could be one."""
    match = _BEARER.fullmatch(headers.get("authorization", ""))
    return match.group(1) if match else None


def application(
    server: Server[object], callers: Callers, *, bound: str, hosts: Sequence[str]
) -> ASGIApp:
    """The ASGI application; requests for other hosts, or of pages of other hosts, are refused."""
    names = [*_LOOPBACK, f"[{bound}]" if ":" in bound else bound, *hosts]
    origins = [f"{scheme}://{name}" for name in names for scheme in ("http", "https")]
    return Edge(
        server.streamable_http_app(
            streamable_http_path=PATH,
            stateless_http=True,
            max_request_body_size=MOST_BODY_BYTES,
            transport_security=TransportSecuritySettings(
                allowed_hosts=[*names, *(f"{name}:*" for name in names)],
                allowed_origins=[*origins, *(f"{origin}:*" for origin in origins)],
            ),
        ),
        callers,
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; an OversightError when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OversightError(
            f"can't listen on {host} port {port}: {error.strerror}; stop what uses it, or give"
            " another --port"
        ) from error
    return listener


async def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then finish the calls in hand and return."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn stops by a handler of its own, and then gives the signal to this one.
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    host, port, *_ = listener.getsockname()
    log.info("listening", url=f"http://{host}:{port}{PATH}")
    await uvicorn.Server(config).serve(sockets=[listener])


class Edge:
    """Before the SDK's application: asks for a token that the API knows, and restores numbers."""

    def __init__(self, app: ASGIApp, callers: Callers) -> None:
        self._app = app
        self._callers = callers
        self._refusals = FixedWindowRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = await self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, _restoring(send))

    async def _refusal(self, scope: Scope) -> Response | None:
        if scope["path"] != PATH:
            return _error(404, f"nothing is here; MCP is at {PATH}")
        if scope["method"] != "POST":
            return _error(405, "send JSON-RPC by POST; there are no sessions", Allow="POST")
        token = token_of(Headers(scope=scope))
        if token is None:
            return _unauthorized("send an API key of Oversight: `Authorization: Bearer ov_...`")
        network = _network(scope)
        if not self._callers.has(token) and not self._refusals.test(_REFUSALS, network):
            ends = self._refusals.get_window_stats(_REFUSALS, network).reset_time
            wait = str(max(1, math.ceil(ends - time.time())))
            return _too_many("too many keys from this address were refused", wait)
        try:
            await self._callers.known(token, within_seconds=CALL_SECONDS)
        except RefusedError as error:
            if error.answer.status == 429:
                wait = error.answer.headers.get("Retry-After", "60")
                return _too_many(str(refused(error.answer)), wait)
            if error.answer.status == 401:
                self._refusals.hit(_REFUSALS, network)
                return _unauthorized(str(refused(error.answer)), error="invalid_token")
        except UnreachableError:
            pass  # Told to the agent by the tool that it calls.
        return None


def _restoring(send: Send) -> Send:
    """The start of an answer waits for its first bytes, whose length may change."""
    held: list[Message] = []

    async def restoring(message: Message) -> None:
        if message["type"] == "http.response.start":
            held.append(message)
            return
        if message["type"] == "http.response.body":
            body = exact.restore(message.get("body", b""))
            message = {**message, "body": body}
            if held:
                headers = MutableHeaders(raw=list(held[0].get("headers", ())))
                if "content-length" in headers and not message.get("more_body", False):
                    headers["content-length"] = str(len(body))
                await send({**held.pop(), "headers": headers.raw})
        await send(message)

    return restoring


def _unauthorized(detail: str, error: str | None = None) -> Response:
    challenge = 'Bearer realm="oversight"' + (f', error="{error}"' if error else "")
    return _error(401, detail, **{"WWW-Authenticate": challenge})


def _too_many(detail: str, seconds: str) -> Response:
    return _error(429, detail, **{"Retry-After": seconds})


def _network(scope: Scope) -> str:
    address = scope["client"][0] if scope.get("client") else ""
    if ":" not in address:
        return str(address)
    return str(ipaddress.IPv6Network((address.partition("%")[0], 64), strict=False))


def _error(status: int, detail: str, **headers: str) -> Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": detail}}
    return Response(
        json.dumps(body), status_code=status, headers=headers, media_type="application/json"
    )
