"""What went wrong, told so that an agent knows what to change, and nothing of the inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_types import CallToolResult, TextContent

from api.mcp.tools import Operation
from api.mcp.upstream import Answer

_MOST_CHARACTERS = 2_000
_WAIT_STATUSES = (429, 503)


class ToolError(Exception):
    """Each line says one thing that is wrong, or what to do; `status` is the API's, if it spoke."""

    def __init__(self, *lines: str, status: int | None = None) -> None:
        super().__init__("\n".join(lines))
        self.status = status

    def result(self) -> CallToolResult:
        """As the model sees it."""
        text = str(self)[:_MOST_CHARACTERS]
        return CallToolResult(content=[TextContent(text=text)], is_error=True)


def refused(answer: Answer, operation: Operation | None = None) -> ToolError:
    """An answer other than 200, in the tool's own words where it names parameters."""
    problem: Mapping[str, Any] = answer.body if isinstance(answer.body, dict) else {}
    errors = problem.get("errors")
    lines: list[str] = []
    if isinstance(errors, list) and operation is not None:
        for error in errors:
            argument = operation.argument(str(error.get("parameter")))
            lines.append(f"{argument}: {error.get('message')}")
        known = ", ".join(operation.tool.input_schema["properties"])
        lines.append(f"Arguments of this tool: {known}.")
    else:
        lines.append(str(problem.get("detail") or "the API refused without a reason"))
    if answer.status == 401:
        lines.append("The key of this connection has to be replaced by whoever set it up.")
    if answer.status in _WAIT_STATUSES:
        seconds = answer.headers.get("Retry-After", "")
        lines.append(f"Call again in {seconds} seconds." if seconds else "Call again later.")
    elif answer.status >= 500:
        lines.append("It is not your arguments; call again later.")
    if identity := problem.get("request_id"):
        lines.append(f"(status {answer.status}, request {identity})")
    return ToolError(*lines, status=answer.status)
