"""The MCP inspector's command line lists and calls each tool, as a person trying them would."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from api_warehouse import ApiWarehouse, json_of
from mcp_process import COMMAND, McpServer, exactly
from npm_tools import npm_tool
from server_process import ServerProcess

from clusters import PROJECT_DIR

TOOLS: dict[str, tuple[str, dict[str, str]]] = {
    "get_daily_metrics": ("daily-metrics", {"from": "2026-09-02", "to": "2026-09-03"}),
    "get_freshness": ("metadata/refresh", {}),
    "get_parity": ("metadata/parity", {}),
    "get_weekly_partner_performance": ("weekly-partner-performance", {"week": "2026-W38"}),
    "list_marts": ("marts", {}),
}


def inspect(target: Sequence[str], home: Path, *arguments: str) -> Any:
    """What it prints, numbers with all their digits; it fails for whatever it finds wrong."""
    command = npm_tool("@modelcontextprotocol/inspector", "mcp-inspector")
    ended = subprocess.run(
        [*command, "--cli", *target, "--quiet", "--format", "json", *arguments],
        cwd=PROJECT_DIR,
        env=os.environ | {"HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return exactly(ended.stdout)["result"]


def test_it_lists_and_calls_each_tool_over_http(
    read_only: ApiWarehouse, running_mcp: McpServer, tmp_path: Path
) -> None:
    key = read_only.key("inspector http", organization=["alpha"], partner=["*"])
    target = ("--server-url", running_mcp.url, "--header", f"Authorization: Bearer {key}")
    listed = inspect(target, tmp_path, "--method", "tools/list", "--strict")
    assert {tool["name"] for tool in listed["tools"]} == set(TOOLS)
    client = read_only.client(key)
    for number, (name, (path, arguments)) in enumerate(TOOLS.items()):
        era = ("--protocol-era", "modern" if number % 2 else "legacy")
        call = ("--method", "tools/call", "--tool-name", name, *era)
        result = inspect(target, tmp_path, *call, "--tool-args-json", json.dumps(arguments))
        given = exactly(result["content"][0]["text"])
        answered = json_of(client.get(path, None, **arguments))
        assert {name: given[name] for name in answered} == answered
        assert set(result["structuredContent"]) == set(given)


def test_it_lists_and_calls_a_tool_on_standard_input_and_output(
    read_only: ApiWarehouse, running_api: ServerProcess, tmp_path: Path
) -> None:
    key = read_only.key("inspector stdio", organization=["alpha"], partner=["*"])
    configuration = tmp_path / "mcp.json"
    server = {
        "command": COMMAND[0],
        "args": COMMAND[1:],
        "cwd": str(PROJECT_DIR),
        "env": {
            "OVERSIGHT_API_URL": f"http://127.0.0.1:{running_api.port}",
            "OVERSIGHT_API_KEY": key,
            "PYTHONPATH": str(PROJECT_DIR),
        },
    }
    configuration.write_text(json.dumps({"mcpServers": {"oversight": server}}))
    target = ("--config", str(configuration), "--server", "oversight")
    listed = inspect(target, tmp_path, "--method", "tools/list", "--strict")
    assert {tool["name"] for tool in listed["tools"]} == set(TOOLS)
    result = inspect(target, tmp_path, "--method", "tools/call", "--tool-name", "get_freshness")
    answered = json_of(read_only.client(key).get("metadata/refresh"))
    assert exactly(result["content"][0]["text"])["views"] == answered["views"]
