"""The tools as an agent's host has them on standard input and output, against the running API."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from api_warehouse import ApiWarehouse, json_of
from mcp import Client
from mcp_process import COMMAND, environment, stdio_parameters
from mcp_types import CallToolResult, TextContent, Tool
from server_process import ServerProcess, free_port

from clusters import PROJECT_DIR

SEPTEMBER = {"from": "2026-09-01", "to": "2026-09-30"}
PATHS = {
    "get_daily_metrics": "daily-metrics",
    "get_freshness": "metadata/refresh",
    "get_parity": "metadata/parity",
    "get_weekly_partner_performance": "weekly-partner-performance",
    "list_marts": "marts",
}


@pytest.fixture(scope="module")
def api(
    read_only: ApiWarehouse, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    server = ServerProcess(read_only, tmp_path_factory.mktemp("api") / "log")
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def text_of(result: CallToolResult, place: int = 0) -> str:
    content = result.content[place]
    assert isinstance(content, TextContent)
    return content.text


def exactly(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def test_each_tool_gives_what_the_api_answers(read_only: ApiWarehouse, api: ServerProcess) -> None:
    key = read_only.key("each tool", organization=["alpha"], partner=["*"])
    results: dict[str, CallToolResult] = {}
    tools: dict[str, Tool] = {}

    async def use() -> None:
        async with Client(stdio_parameters(api.port, key)) as client:
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
        if given.get("next_page") is not None:
            answered = json_of(client.get(PATHS[name], page_size=50))
            given.pop("next_page"), answered.pop("next_page")
        assert given == answered, name
        annotations = tools[name].annotations
        assert annotations is not None
        assert annotations.read_only_hint is True
        assert annotations.destructive_hint is False


def test_pages_by_cursor_are_all_the_rows(read_only: ApiWarehouse, api: ServerProcess) -> None:
    key = read_only.key("pages", organization=["alpha"], partner=["*"])
    rows: list[Any] = []
    pages: list[bool] = []

    async def use() -> None:
        async with Client(stdio_parameters(api.port, key)) as client:
            arguments: dict[str, Any] = {**SEPTEMBER, "pageSize": 40}
            while True:
                result = await client.call_tool("get_daily_metrics", arguments)
                page = exactly(text_of(result))
                rows.extend(page["data"])
                pages.append(page["truncated"])
                assert page["freshness"]["status"] == "fresh"
                assert len(page["data"]) <= 40
                if not page["truncated"]:
                    return
                assert "`cursor` set to next_page" in text_of(result, 1)
                arguments["cursor"] = page["next_page"]

    anyio.run(use)
    assert pages == [True, True, False]
    (whole,) = read_only.client(key).pages("daily-metrics", **SEPTEMBER)
    assert rows == whole
    assert len(rows) == 90


def test_wrong_arguments_are_told_in_the_tools_own_words(
    read_only: ApiWarehouse, api: ServerProcess
) -> None:
    key = read_only.key("wrong", organization=["alpha"], partner=["*"])
    cases: dict[str, dict[str, Any]] = {
        "partner_id: is unknown; write partnerId": {"partner_id": "reddit_ads:1"},
        "drop table: is unknown": {"drop table": 1},
        "from: '2026-02-30' is a day that does not exist": {"from": "2026-02-30"},
        "from: the window 2026-01-01 to 2026-12-31 has 365 days; at most 92 are served": {
            "from": "2026-01-01",
            "to": "2026-12-31",
        },
        "from: 7 is not of type 'string'": {"from": 7},
        "pageSize: 1000 is greater than the maximum of 200": {"pageSize": 1000},
        "partnerId: is empty; give a value or leave the parameter out": {"partnerId": ""},
        "partnerId: is longer than 6000 characters": {"partnerId": "x" * 100_000},
        "cursor: is no page token of this API": {"cursor": "abc"},
    }

    async def use() -> None:
        async with Client(stdio_parameters(api.port, key)) as client:
            for expected, arguments in cases.items():
                result = await client.call_tool("get_daily_metrics", arguments)
                assert result.is_error
                first, *rest = text_of(result).splitlines()
                assert first == expected
                assert "Arguments of this tool: from, to, partnerId, cursor, pageSize." in rest
            # What many models send for an argument that they leave out.
            result = await client.call_tool("get_daily_metrics", {"partnerId": None})
            assert not result.is_error

    anyio.run(use)


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


def test_standard_output_holds_messages_only_and_numbers_with_all_digits(
    read_only: ApiWarehouse, api: ServerProcess, tmp_path: Path
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
        env=environment(api.port) | {"OVERSIGHT_API_KEY_FILE": str(key_file)},
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
        rest, log = process.communicate(timeout=10)
    finally:
        process.kill()
    assert rest == ""
    assert process.returncode == 0
    assert key not in log
    structured = line.split('"structuredContent":')[1]
    assert '"spend":1.0000100,"clicks":100000000000000001}' in structured
    assert "number-" not in line
    assert json.loads(line)["result"]["structuredContent"]["truncated"] is False
