"""The tools over streamable HTTP, where every caller brings a key of their own."""

from __future__ import annotations

from typing import Any

import anyio
from api_warehouse import ApiWarehouse
from mcp_process import McpServer, exactly, text_of

SEPTEMBER = {"from": "2026-09-01", "to": "2026-09-30"}


def test_pages_by_cursor_are_all_the_rows(read_only: ApiWarehouse, running_mcp: McpServer) -> None:
    key = read_only.key("pages", organization=["alpha"], partner=["*"])
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
