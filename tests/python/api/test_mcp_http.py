"""The tools over streamable HTTP, where every caller brings a key of their own."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from api_warehouse import OPERATORS_ONLY, ApiWarehouse
from mcp import MCPError
from mcp_process import McpServer, exactly, post, text_of
from scripted_api import BASE, ScriptedApi, json_reply
from server_process import free_port

from warehouse.database import connect
from warehouse.keys import revoke_key

SEPTEMBER = {"from": "2026-09-01", "to": "2026-09-30"}


def test_pages_by_cursor_are_all_the_rows(read_only: ApiWarehouse, running_mcp: McpServer) -> None:
    key = read_only.key("mcp pages", organization=["alpha"], partner=["*"])
    rows: list[Any] = []
    pages: list[bool] = []

    async def use() -> None:
        async with running_mcp.client(key) as client:
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
    read_only: ApiWarehouse, running_mcp: McpServer
) -> None:
    key = read_only.key("mcp wrong", organization=["alpha"], partner=["*"])
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
        async with running_mcp.client(key) as client:
            for expected, arguments in cases.items():
                result = await client.call_tool("get_daily_metrics", arguments)
                assert result.is_error
                first, *rest = text_of(result).splitlines()
                assert first == expected
                assert rest[0].startswith("Arguments of this tool: from, to, partnerId, ")
            # What many models send for an argument that they leave out.
            result = await client.call_tool("get_daily_metrics", {"partnerId": None})
            assert not result.is_error

    anyio.run(use)


def test_callers_of_one_server_see_their_own_rows_only(
    read_only: ApiWarehouse, running_mcp: McpServer
) -> None:
    keys = {
        "alpha": read_only.key("caller a", organization=["alpha"], partner=["*"]),
        "beta": read_only.key("caller b", organization=["beta"], partner=["*"]),
        "one": read_only.key("caller c", organization=["alpha"], partner=["google_ads:1"]),
    }
    found: dict[str, set[str]] = {name: set() for name in keys}
    expected = {
        name: json.dumps(
            read_only.client(key).pages("daily-metrics", **SEPTEMBER)[0][:30], default=str
        )
        for name, key in keys.items()
    }

    async def read(name: str, mode: str) -> None:
        async with running_mcp.client(keys[name], mode) as client:
            for _ in range(8):
                arguments = {**SEPTEMBER, "pageSize": 30}
                result = await client.call_tool("get_daily_metrics", arguments)
                found[name].add(json.dumps(exactly(text_of(result))["data"], default=str))

    async def all_at_once() -> None:
        async with anyio.create_task_group() as group:
            for name in keys:
                for mode in ("legacy", "auto"):
                    group.start_soon(read, name, mode)

    anyio.run(all_at_once)
    assert found == {name: {rows} for name, rows in expected.items()}
    assert len(set(expected.values())) == 3


def test_only_what_the_caller_may_read_is_listed_and_can_be_called(
    read_only: ApiWarehouse, running_mcp: McpServer
) -> None:
    operator = read_only.key("mcp operator", "operator", organization=["alpha"], partner=["*"])
    agent = read_only.key("mcp agent", "agent", organization=["alpha"], partner=["*"])

    async def use() -> None:
        async with running_mcp.client(operator) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert f"get_{OPERATORS_ONLY.name}" in names
            assert not (await client.call_tool("get_operations", {})).is_error
        async with running_mcp.client(agent) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert "get_daily_metrics" in names
            assert f"get_{OPERATORS_ONLY.name}" not in names
            with pytest.raises(MCPError, match="Unknown tool: get_operations; the tools are get_"):
                await client.call_tool("get_operations", {})

    anyio.run(use)


def test_without_a_known_key_nothing_is_answered(running_mcp: McpServer) -> None:
    for headers, expected in (
        ({}, 'Bearer realm="oversight"'),
        ({"Authorization": "Basic abc"}, 'Bearer realm="oversight"'),
        (
            {"Authorization": "Bearer ov_" + "a" * 43},
            'Bearer realm="oversight", error="invalid_token"',
        ),
    ):
        answer = post(running_mcp, "tools/list", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == expected
        assert "result" not in answer.json()


def test_a_revoked_key_is_refused_within_seconds(
    read_only: ApiWarehouse, running_mcp: McpServer
) -> None:
    key = read_only.key("to be revoked", organization=["alpha"], partner=["*"])
    headers = {"Authorization": f"Bearer {key}"}
    assert post(running_mcp, "tools/list", headers=headers).status_code == 200
    connection = connect(read_only.settings, autocommit=True)
    revoke_key(connection, "to be revoked")
    connection.close()
    started = time.monotonic()
    while True:
        answer = post(running_mcp, "tools/call", headers=headers, name="get_daily_metrics")
        if answer.status_code == 401:
            break
        # The API's workers forget a key one by one; the first that has makes it a tool's error.
        result = answer.json()["result"]
        assert not result["isError"] or "revoked" in result["content"][0]["text"]
        assert time.monotonic() - started < 15
        time.sleep(0.2)


def test_other_hosts_pages_and_methods_are_refused(
    read_only: ApiWarehouse, running_mcp: McpServer
) -> None:
    key = read_only.key("mcp hosts", organization=["alpha"], partner=["*"])
    headers = {"Authorization": f"Bearer {key}"}
    for extra, status in (
        ({"Host": "evil.example:80"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": f"http://localhost:{running_mcp.port}"}, 200),
    ):
        assert post(running_mcp, "tools/list", headers=headers | extra).status_code == status
    for method in ("GET", "DELETE", "PUT"):
        answer = httpx2.request(method, running_mcp.url, headers=headers, trust_env=False)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert httpx2.post(running_mcp.url + "/x", headers=headers).status_code == 404
    long = post(running_mcp, "tools/call", headers=headers, name="x" * 300_000)
    assert long.status_code == 413


def test_numbers_keep_all_digits_in_both_forms_of_answer(
    read_only: ApiWarehouse, running_mcp: McpServer
) -> None:
    key = read_only.key("mcp digits", organization=["alpha"], partner=["*"])
    headers = {"Authorization": f"Bearer {key}"}
    arguments = {"from": "2026-09-02", "to": "2026-09-02"}
    for is_modern, kind in ((True, "application/json"), (False, "text/event-stream")):
        answer = post(
            running_mcp,
            "tools/call",
            headers=headers,
            is_modern=is_modern,
            name="get_daily_metrics",
            arguments=arguments,
        )
        assert answer.headers["Content-Type"].startswith(kind)
        structured = answer.text.split('"structuredContent":')[1]
        assert '"spend":1.0000100,"clicks":100000000000000001}' in structured
        assert "number-" not in answer.text


def test_with_the_api_away_it_says_so_and_goes_on_when_it_is_back(
    read_only: ApiWarehouse, tmp_path: Path
) -> None:
    key = read_only.key("mcp away", organization=["alpha"], partner=["*"])
    headers = {"Authorization": f"Bearer {key}"}
    api_port = free_port()
    server = McpServer(api_port, tmp_path / "mcp", "--allow-host", "oversight.example")
    api: ScriptedApi | None = None
    try:
        server.wait_until_ready()
        listed = post(server, "tools/list", headers=headers).json()
        assert "the Oversight API can't be reached" in listed["error"]["message"]
        result = post(server, "tools/call", headers=headers, name="get_wide_mart").json()["result"]
        assert result["isError"] is True
        assert result["content"][0]["text"].startswith("the Oversight API can't be reached; try")
        assert "OVERSIGHT_API_URL of this connection" in result["content"][0]["text"]

        api = ScriptedApi(port=api_port)
        api.replies[f"{BASE}/wide-mart"] = lambda _: json_reply({"data": [], "next_page": None})
        named = headers | {"Host": "oversight.example", "Origin": "https://oversight.example"}
        result = post(server, "tools/call", headers=named, name="get_wide_mart").json()["result"]
        assert result["isError"] is False

        api.replies[f"{BASE}/wide-mart"] = lambda _: None
        with pytest.raises(httpx2.ReadTimeout):
            post(server, "tools/call", headers=headers, name="get_wide_mart", seconds=1)
        assert api.given_up.wait(30), "the caller left, and the call went on"
    finally:
        if api is not None:
            api.stop()
        assert server.stop() == 0
    assert key not in server.log.read_text()
