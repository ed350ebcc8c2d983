"""`oversight mcp` as a process of a test's own, on standard input and output or over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent
from server_process import START_SECONDS, STOP_SECONDS, free_port

from clusters import PROJECT_DIR

COMMAND = [sys.executable, "-m", "runner.cli", "mcp"]


def stdio_parameters(api_port: int, key: str) -> StdioServerParameters:
    """How a host starts it on standard input and output."""
    return StdioServerParameters(
        command=COMMAND[0],
        args=COMMAND[1:],
        cwd=PROJECT_DIR,
        env=environment(api_port) | {"OVERSIGHT_API_KEY": key},
    )


def environment(api_port: int) -> dict[str, str]:
    """The variables of an adapter of the API at a port."""
    return os.environ | {"OVERSIGHT_API_URL": f"http://127.0.0.1:{api_port}"}


def text_of(result: CallToolResult, place: int = 0) -> str:
    """A text of a result: the JSON, or with 1 what to make of it."""
    content = result.content[place]
    assert isinstance(content, TextContent)
    return content.text


def exactly(text: str) -> Any:
    """Parsed JSON, its numbers with all their digits."""
    return json.loads(text, parse_float=Decimal)


class McpServer:
    """`oversight mcp --http`."""

    def __init__(self, api_port: int, log: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, "--http", "--port", str(self.port), *options],
                cwd=PROJECT_DIR,
                env=environment(api_port),
                stdout=errors,
                stderr=errors,
            )

    def wait_until_ready(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                assert httpx2.get(self.url).status_code == 405
                return
            except httpx2.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"not ready: {self.log.read_text()}")

    def client(self, key: str, mode: str = "auto") -> Client:
        """The SDK's client with a key."""
        http = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}"}, timeout=START_SECONDS, trust_env=False
        )
        return Client(streamable_http_client(self.url, http_client=http), mode=mode)

    def stop(self) -> int:
        """Ask it to stop and give back its exit status."""
        self.process.terminate()
        return self.process.wait(STOP_SECONDS)


def post(
    server: McpServer,
    method: str,
    *,
    headers: dict[str, str],
    is_modern: bool = True,
    seconds: float = START_SECONDS,
    **parameters: Any,
) -> httpx2.Response:
    """One message as it goes over the wire, of the protocol of 2026 or of the one before."""
    sent = {"Accept": "application/json, text/event-stream"}
    if is_modern:
        parameters["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        sent |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
        if "name" in parameters:
            sent["Mcp-Name"] = parameters["name"][:1000]
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    with httpx2.Client(trust_env=False, timeout=seconds) as client:
        answer: httpx2.Response = client.post(server.url, json=body, headers=sent | headers)
        return answer
