"""The MCP server: lists the caller's tools and calls them, whatever carries the messages."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from api.mcp.callers import Callers, RefusedError
from api.mcp.calls import call
from api.mcp.problems import ToolError, refused
from api.mcp.tools import Operation
from api.mcp.upstream import TRACEPARENT, UnreachableError, Upstream

LIST_SECONDS = 4.0
CALL_SECONDS = 60.0
_UNKNOWN_SECONDS = 2.0
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_INSTRUCTIONS = (
    "Read-only figures of Oversight, a reporting warehouse. list_marts says what there is; one tool"
    " reads each mart. Every result of a mart has a freshness block: say so when `status` is late"
    " or `parity` is failed. Results are small pages: while `truncated` is true, call again with"
    " the same arguments and `cursor` set to next_page, and add nothing up before the last page."
)

Token = Callable[[ServerRequestContext[Any, Any]], str]
log = structlog.get_logger()


def make_server(upstream: Upstream, callers: Callers, token: Token) -> Server[Any]:
    """A server whose caller's token is what `token` finds for a request."""

    async def list_tools(
        context: ServerRequestContext[Any, Any], _: PaginatedRequestParams | None
    ) -> ListToolsResult:
        try:
            known = await callers.known(token(context), within_seconds=LIST_SECONDS)
        except RefusedError as error:
            raise MCPError(INTERNAL_ERROR, str(refused(error.answer))) from error
        except UnreachableError as error:
            raise MCPError(INTERNAL_ERROR, str(error)) from error
        return ListToolsResult(tools=[found.tool for found in known.operations.values()])

    async def call_tool(
        context: ServerRequestContext[Any, Any], params: CallToolRequestParams
    ) -> CallToolResult:
        started = time.perf_counter()
        TRACEPARENT.set(_traceparent(context))
        result = await _called(upstream, callers, token(context), params)
        milliseconds = round((time.perf_counter() - started) * 1000, 1)
        log.info("tool", tool=params.name, is_error=result.is_error, ms=milliseconds)
        return result

    return Server(
        "oversight",
        title="Oversight",
        version=_version(),
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        cache_hints={
            "tools/list": CacheHint(ttl_ms=int(CALL_SECONDS * 1000), scope="private"),
            "server/discover": CacheHint(ttl_ms=3_600_000, scope="public"),
        },
        # No argument is mirrored in a header; without this each call would list the tools first.
        get_tool_input_schema=lambda _: None,
    )


async def _called(
    upstream: Upstream, callers: Callers, token: str, params: CallToolRequestParams
) -> CallToolResult:
    try:
        operation = await _operation(callers, token, params.name)
        return await call(upstream, operation, params.arguments or {}, token=token)
    except ToolError as error:
        if error.status == 401:
            callers.forget(token)
        return error.result()
    except RefusedError as error:
        return refused(error.answer).result()
    except UnreachableError as error:
        return ToolError(str(error)).result()


async def _operation(callers: Callers, token: str, name: str) -> Operation:
    for seconds in (CALL_SECONDS, _UNKNOWN_SECONDS):
        known = await callers.known(token, within_seconds=seconds)
        if name in known.operations:
            return known.operations[name]
    names = ", ".join(known.operations)
    raise MCPError(INVALID_PARAMS, f"Unknown tool: {name[:100]}; the tools are {names}")


def _traceparent(context: ServerRequestContext[Any, Any]) -> str | None:
    """From the message itself, where the protocol has it, else from the HTTP request."""
    found = (context.meta or {}).get("traceparent")
    if found is None and context.request is not None:
        found = context.request.headers.get("traceparent")
    return found if isinstance(found, str) and _TRACEPARENT.fullmatch(found) else None


def _version() -> str:
    try:
        return version("oversight")
    except PackageNotFoundError:
        return ""
