"""One call of a tool: its arguments to a query, the API's answer to a result of bounded length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from mcp_types import CallToolResult, TextContent

from api.mcp import exact
from api.mcp.problems import ToolError, refused
from api.mcp.tools import CURSOR, DEFAULT_ROWS, PAGE_SIZE, Operation
from api.mcp.upstream import Upstream, unreadable

MOST_CHARACTERS = 10_000
"""Of a result's JSON, which is in the result twice: as structured content and as text."""
_MOST_IN_ARGUMENT = 6_000
_TRIES = 9
"""From the most rows down to one, of which each is half of the one before at least."""


async def call(
    upstream: Upstream, operation: Operation, arguments: Mapping[str, Any], *, token: str
) -> CallToolResult:
    """The API's answer as a result; a ToolError says what to change, UnreachableError to wait."""
    given = {name: value for name, value in arguments.items() if value is not None}
    _check(operation, given)
    query = {
        name: _text(given[argument])
        for argument, name in operation.parameters.items()
        if argument in given
    }
    if operation.is_paged:
        return await _paged(upstream, operation, query, given, token)
    body = await _get(upstream, operation, query, token)
    return _result(operation, _cut(body, given.get(CURSOR)))


async def _paged(
    upstream: Upstream,
    operation: Operation,
    query: dict[str, str],
    given: Mapping[str, Any],
    token: str,
) -> CallToolResult:
    """Where the rows are too long together, fewer are asked for: the API's cursor goes on there."""
    rows = int(given.get(PAGE_SIZE, DEFAULT_ROWS))
    for tried in range(_TRIES):
        query[operation.parameters[PAGE_SIZE]] = str(rows)
        body = await _get(upstream, operation, query, token)
        if not isinstance(body.get("data"), list) or "next_page" not in body:
            raise unreadable()
        came, length = len(body["data"]), len(exact.dumps(body))
        if length <= MOST_CHARACTERS or came <= 1:
            break
        fitting = int(came * MOST_CHARACTERS / length * 0.9)
        rows = max(1, min(fitting, came // 2) if tried else fitting)
    return _result(operation, {**body, "truncated": body["next_page"] is not None})


def _cut(body: Mapping[str, Any], cursor: str | None) -> dict[str, Any]:
    """An answer that the API does not page: of its longest list, what fits from the cursor on."""
    lists = {name: value for name, value in body.items() if isinstance(value, list)}
    if not lists:
        return {**body, "truncated": False, "next_page": None}
    longest = max(lists, key=lambda name: len(exact.dumps(lists[name])))
    items = lists[longest]
    start = 0
    if cursor is not None:
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
            raise ToolError(f"{CURSOR}: is none of this tool; use next_page of the result before")
        start = int(cursor)
    room = MOST_CHARACTERS - len(exact.dumps({**body, longest: []}))
    kept: list[Any] = []
    for item in items[start:]:
        room -= len(exact.dumps(item)) + 1
        if room < 0 and kept:
            break
        kept.append(item)
    end = start + len(kept)
    is_cut = end < len(items)
    rest = {"truncated": is_cut, "next_page": str(end) if is_cut else None}
    return {**body, longest: kept, **rest}


def _result(operation: Operation, body: dict[str, Any]) -> CallToolResult:
    """JSON first, for hosts that show models no structured content; then what to make of it."""
    return CallToolResult(
        content=[TextContent(text=exact.dumps(body)), TextContent(text=_remark(operation, body))],
        structured_content=body,
    )


def _remark(operation: Operation, body: Mapping[str, Any]) -> str:
    parts = [
        f"{len(value)} {'rows' if name == 'data' else name}."
        for name, value in body.items()
        if isinstance(value, list)
    ]
    if window := body.get("window"):
        parts.append(f"Window {window.get('from')} to {window.get('to')}, both inclusive.")
    if freshness := body.get("freshness"):
        parts.append(
            f"Freshness: {freshness.get('status')}, data through {freshness.get('data_through')}."
            f" Parity: {freshness.get('parity')}."
        )
        if freshness.get("is_stale"):
            parts.append("STALE: the last answer known, as the database is away.")
    if body["truncated"]:
        parts.append(
            f"TRUNCATED, there is more: call {operation.tool.name} again with the same arguments"
            f" and `{CURSOR}` set to next_page."
        )
    else:
        parts.append("Nothing follows.")
    return " ".join(parts)


async def _get(
    upstream: Upstream, operation: Operation, query: Mapping[str, str], token: str
) -> dict[str, Any]:
    answer = await upstream.get(operation.path, query, token=token)
    if answer.status != 200:
        raise refused(answer, operation)
    if not isinstance(answer.body, dict):
        raise unreadable()
    return answer.body


def _check(operation: Operation, given: Mapping[str, Any]) -> None:
    """Names, types and the adapter's own bounds; the API says the rest better than a schema."""
    schema = operation.tool.input_schema
    known = schema["properties"]
    own = {name: argument for argument, name in operation.parameters.items()}
    wrong = [
        f"{name[:100]}: is unknown" + (f"; write {own[name]}" if name in own else "")
        for name in given
        if name not in known
    ]
    wrong += [
        f"{name[:100]}: is longer than {_MOST_IN_ARGUMENT} characters"
        for name, value in given.items()
        if len(str(value)) > _MOST_IN_ARGUMENT
    ]
    wrong += [
        f"{'.'.join(map(str, error.path)) or 'arguments'}: {error.message[:200]}"
        for error in Draft202012Validator(schema).iter_errors(dict(given))
        if error.validator == "type" or PAGE_SIZE in error.path
    ]
    if wrong:
        raise ToolError(*sorted(wrong), f"Arguments of this tool: {', '.join(known)}.")


def _text(value: Any) -> str:
    """An argument as the query has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value)
