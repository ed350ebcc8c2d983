"""The tools as an agent's host has them on standard input and output, against the running API."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from api_warehouse import ApiWarehouse, json_of
from click.testing import CliRunner
from mcp import Client
from mcp_process import COMMAND, environment, exactly, stdio_parameters, text_of
from mcp_types import CallToolResult, Tool
from scripted_api import BASE, ScriptedApi
from server_process import ServerProcess, free_port

from api.mcp import http
from clusters import PROJECT_DIR
from runner.cli import main
from warehouse.errors import OversightError

PATHS = {
    "get_daily_metrics": "daily-metrics",
    "get_freshness": "metadata/refresh",
    "get_parity": "metadata/parity",
    "get_weekly_partner_performance": "weekly-partner-performance",
    "list_marts": "marts",
}


def test_each_tool_gives_what_the_api_answers(
    read_only: ApiWarehouse, running_api: ServerProcess
) -> None:
    key = read_only.key("each tool", organization=["alpha"], partner=["*"])
    results: dict[str, CallToolResult] = {}
    tools: dict[str, Tool] = {}

    async def use() -> None:
        async with Client(stdio_parameters(running_api.port, key)) as client:
            listed = await client.list_tools()
            assert (listed.ttl_ms, listed.cache_scope) == (60_000, "private")
            for tool in listed.tools:
                tools[tool.name] = tool
                # The client itself compares structured content with the output schema.
                results[tool.name] = await client.call_tool(tool.name, {})

    anyio.run(use)
    assert set(results) == set(PATHS)
    client = read_only.client(key)
    for name, result in results.items():
        given, answered = exactly(text_of(result)), json_of(client.get(PATHS[name]))
        assert not result.is_error
        assert given.pop("truncated") is (given.get("next_page") is not None)
        if "next_page" not in answered:
            assert given.pop("next_page") is None
        elif given["next_page"] is not None:
            answered = json_of(client.get(PATHS[name], page_size=50))
            assert given.pop("next_page")
            assert answered.pop("next_page")
        assert given == answered, name
        annotations = tools[name].annotations
        assert annotations is not None
        assert annotations.read_only_hint is True
        assert annotations.destructive_hint is False


def test_without_a_key_or_with_a_wrong_address_it_says_what_to_set() -> None:
    for variables, expected in (
        ({}, "error: there is no key to call the API with: set OVERSIGHT_API_KEY"),
        ({"OVERSIGHT_API_URL": "ftp://x"}, "error: OVERSIGHT_API_URL is 'ftp://x'"),
    ):
        ended = subprocess.run(
            COMMAND,
            cwd=PROJECT_DIR,
            env=environment(free_port()) | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.startswith(expected)


def test_a_call_that_is_cancelled_is_given_up_and_the_next_is_answered() -> None:
    api = ScriptedApi()
    api.replies[f"{BASE}/wide-mart"] = lambda _: None

    async def use() -> None:
        async with Client(stdio_parameters(int(api.url.rpartition(":")[2]), "t")) as client:
            await client.list_tools()
            with anyio.move_on_after(1) as scope:
                await client.call_tool("get_wide_mart", {})
            assert scope.cancelled_caught
            assert await anyio.to_thread.run_sync(api.given_up.wait, 10)
            assert not (await client.call_tool("list_marts", {})).is_error

    try:
        anyio.run(use)
    finally:
        api.stop()


def test_options_of_the_other_transport_are_refused() -> None:
    result = CliRunner().invoke(main, ["mcp", "--port", "9000"])
    assert result.exit_code == 2
    assert "--host, --port and --allow-host belong to --http" in result.output


def test_a_taken_port_is_an_error_that_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OversightError, match=r"can't listen on 127\.0\.0\.1 port .* --port"):
            http.bind("127.0.0.1", taken.getsockname()[1])


def test_standard_output_holds_messages_only_and_numbers_with_all_digits(
    read_only: ApiWarehouse, running_api: ServerProcess, tmp_path: Path
) -> None:
    key = read_only.key("raw", organization=["alpha"], partner=["*"])
    key_file = tmp_path / "key"
    key_file.write_text(f"{key}\n")
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": "get_daily_metrics",
            "arguments": {"from": "2026-09-02", "to": "2026-09-02"},
            "_meta": meta,
        },
    }
    process = subprocess.Popen(
        COMMAND,
        cwd=PROJECT_DIR,
        env=environment(running_api.port) | {"OVERSIGHT_API_KEY_FILE": str(key_file)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        rest, log = process.communicate(timeout=30)
    finally:
        process.kill()
    assert rest == ""
    assert process.returncode == 0
    assert key not in log
    structured = line.split('"structuredContent":')[1]
    assert '"spend":1.0000100,"clicks":100000000000000001}' in structured
    assert "number-" not in line
    assert json.loads(line)["result"]["structuredContent"]["truncated"] is False
