"""Callers of the MCP server whose keys the API does not know, and those who ask too often."""

from __future__ import annotations

from pathlib import Path

from mcp_process import McpServer, post
from scripted_api import Reply, ScriptedApi, json_reply

from api.mcp.http import REFUSALS_PER_MINUTE


def test_an_address_that_tries_many_keys_is_not_asked_about_and_known_ones_go_on(
    tmp_path: Path,
) -> None:
    """The API would count them all against the adapter's own address."""
    good = {"Authorization": "Bearer ov_" + "g" * 43}
    api = ScriptedApi()
    document = api.replies["/openapi.json"]

    def answer(query: dict[str, str]) -> Reply:
        if api.headers["authorization"] == good["Authorization"]:
            found = document(query)
            assert found is not None
            return found
        return json_reply({"detail": "unknown"}, 401)

    api.replies["/openapi.json"] = answer
    server = McpServer(int(api.url.rpartition(":")[2]), tmp_path / "mcp")
    try:
        server.wait_until_ready()
        assert post(server, "tools/list", headers=good).status_code == 200
        statuses = []
        for number in range(REFUSALS_PER_MINUTE + 5):
            stranger = {"Authorization": f"Bearer ov_{number:043}"}
            statuses.append(post(server, "tools/list", headers=stranger).status_code)
        assert statuses == [401] * REFUSALS_PER_MINUTE + [429] * 5
        asked = len(api.requests)
        refused = post(server, "tools/list", headers={"Authorization": "Bearer ov_x"})
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert len(api.requests) == asked
        assert post(server, "tools/list", headers=good).status_code == 200
    finally:
        api.stop()
        assert server.stop() == 0


def test_too_many_requests_of_the_api_are_too_many_at_the_door(tmp_path: Path) -> None:
    api = ScriptedApi()
    api.replies["/openapi.json"] = lambda _: json_reply({"detail": "no"}, 429, Retry_After="7")
    server = McpServer(int(api.url.rpartition(":")[2]), tmp_path / "mcp")
    try:
        server.wait_until_ready()
        answer = post(server, "tools/list", headers={"Authorization": "Bearer ov_x"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    finally:
        api.stop()
        assert server.stop() == 0
