"""One tool call against an API that a test writes: long rows, broken answers, giving up."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import anyio
import httpx2
import pytest
from mcp import Client
from mcp_process import exactly, text_of
from mcp_types import CallToolResult
from scripted_api import BASE, DOCUMENT, Reply, ScriptedApi, json_reply

from api.mcp import upstream as upstream_module
from api.mcp.callers import Callers, RefusedError
from api.mcp.calls import call
from api.mcp.problems import ToolError
from api.mcp.server import make_server
from api.mcp.tools import MARTS, operations
from api.mcp.upstream import UnreachableError, Upstream

Result = TypeVar("Result")
WIDE = operations(DOCUMENT, {f"{BASE}/wide-mart"})["get_wide_mart"]
LIST = operations(DOCUMENT, set())["list_marts"]


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    scripted = ScriptedApi()
    yield scripted
    scripted.stop()


def using(api: ScriptedApi, use: Callable[[Upstream], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        async with Upstream(api.url) as upstream:
            return await use(upstream)

    return anyio.run(run)


def called(api: ScriptedApi, **arguments: Any) -> CallToolResult:
    return using(api, lambda upstream: call(upstream, WIDE, arguments, token="t"))


def listed(api: ScriptedApi, **arguments: Any) -> CallToolResult:
    return using(api, lambda upstream: call(upstream, LIST, arguments, token="t"))


def refusal(api: ScriptedApi, reply: Reply, **arguments: Any) -> list[str]:
    api.replies[f"{BASE}/wide-mart"] = lambda _: reply
    with pytest.raises(ToolError) as raised:
        called(api, **arguments)
    return str(raised.value).splitlines()


def test_long_rows_come_in_smaller_pages_that_are_all_the_rows(api: ScriptedApi) -> None:
    # The longest come first, so that an average of all is too hopeful for them.
    rows = [{"number": number, "text": "é" * (9000 // (number + 1))} for number in range(260)]

    def page(query: dict[str, str]) -> Reply:
        start, size = int(query.get("page", 0)), int(query["page_size"])
        end = start + size
        following = str(end) if end < len(rows) else None
        return json_reply({"data": rows[start:end], "next_page": following})

    api.replies[f"{BASE}/wide-mart"] = page
    found: list[Any] = []
    cursor = None
    while True:
        result = called(api, pageSize=200, **({"cursor": cursor} if cursor else {}))
        assert sum(len(text_of(result, place)) for place in (0, 1)) < 11_000
        body = exactly(text_of(result))
        assert len(json.dumps(result.structured_content, ensure_ascii=False)) < 11_000
        found += body["data"]
        cursor = body["next_page"]
        assert body["truncated"] is (cursor is not None)
        if cursor is None:
            break
    assert found == rows
    assert api.requests[0][1]["page_size"] == "200"


def test_one_row_that_is_too_long_is_given_all_the_same(api: ScriptedApi) -> None:
    row = {"number": 1, "text": "x" * 30_000}
    api.replies[f"{BASE}/wide-mart"] = lambda _: json_reply({"data": [row], "next_page": "more"})
    body = exactly(text_of(called(api, pageSize=1)))
    assert body == {"data": [row], "next_page": "more", "truncated": True}


def test_a_long_list_that_the_api_does_not_page_is_cut_and_goes_on(api: ScriptedApi) -> None:
    marts = [{"path": f"/{number}", "description": "d" * 900} for number in range(30)]
    api.replies[MARTS] = lambda _: json_reply({"data": marts, "short": [1]})
    found: list[Any] = []
    arguments: dict[str, Any] = {}
    while True:
        result = listed(api, **arguments)
        body = exactly(text_of(result))
        assert len(text_of(result)) <= 10_100
        assert body["short"] == [1]
        found += body["data"]
        if not body["truncated"]:
            assert body["next_page"] is None
            break
        arguments = {"cursor": body["next_page"]}
    assert found == marts
    for cursor in ("x", "-1", "1" * 10):
        with pytest.raises(ToolError, match="cursor: is none of this tool"):
            listed(api, cursor=cursor)


def test_numbers_keep_all_their_digits(api: ScriptedApi) -> None:
    body = b'{"data":[{"number":12345678901234567890.12345678901234567890},{"number":1e400}],'
    answer: Reply = (200, "application/json", body + b'"next_page":null}', {})
    api.replies[f"{BASE}/wide-mart"] = lambda _: answer
    text = text_of(called(api))
    assert '{"number":12345678901234567890.12345678901234567890},{"number":1e400}' in text


def test_arguments_go_by_the_names_of_the_api_and_nothing_else_does(api: ScriptedApi) -> None:
    api.replies[f"{BASE}/wide-mart"] = lambda _: json_reply({"data": [], "next_page": None})
    called(api, partnerId="a&page_size=9", cursor=None, pageSize=7)
    assert api.requests == [
        (f"{BASE}/wide-mart", {"partner_id": "a&page_size=9", "page_size": "7"})
    ]


def test_refusals_say_what_to_change_or_how_long_to_wait(api: ScriptedApi) -> None:
    wrong = [{"parameter": "partner_id", "message": "is empty"}]
    problem = {"detail": "partner_id: is empty", "errors": wrong, "request_id": "abc"}
    assert refusal(api, json_reply(problem, 400)) == [
        "partnerId: is empty",
        "Arguments of this tool: partnerId, cursor, pageSize.",
        "(status 400, request abc)",
    ]
    limit = json_reply({"detail": "1000 requests an hour are used up"}, 429, Retry_After="17")
    assert refusal(api, limit) == [
        "1000 requests an hour are used up",
        "Call again in 17 seconds.",
    ]
    away = json_reply({"detail": "the database is away"}, 503, Retry_After="5")
    assert refusal(api, away)[1] == "Call again in 5 seconds."
    forbidden = json_reply({"detail": "the role 'reader' may not read this"}, 403)
    assert refusal(api, forbidden)[0] == "the role 'reader' may not read this"
    assert "has to be replaced" in refusal(api, json_reply({"detail": "no"}, 401))[1]


def test_what_is_no_answer_of_the_api_is_not_passed_on(api: ScriptedApi) -> None:
    inside = b"<html>Traceback: File /srv/secret.py</html>"
    lines = refusal(api, (500, "text/html", inside, {}))
    assert lines[0] == "the API refused without a reason"
    assert lines[1] == "It is not your arguments; call again later."
    replies: list[Reply] = [
        (200, "text/html", inside, {}),
        (200, "application/json", b'["data"]', {}),
        (200, "application/json", b'{"data": {}, "next_page": null}', {}),
        (200, "application/json", b'{"data": [', {}),
        (200, "application/json", b'{"data": [NaN]}', {}),
        (200, "application/json", b"[" * 100_000, {}),
        (200, "application/json", b"1" * 5_000_000, {}),
        (302, "text/html", b"", {"Location": "http://127.0.0.1:1/"}),
    ]
    api.replies[f"{BASE}/wide-mart"] = lambda _: replies[0]
    while replies:
        with pytest.raises((UnreachableError, ToolError)) as raised:
            called(api)
        assert "secret" not in str(raised.value)
        assert "127.0.0.1" not in str(raised.value)
        replies.pop(0)


def test_an_api_that_hangs_is_given_up(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.replies[f"{BASE}/wide-mart"] = lambda _: None
    monkeypatch.setattr(upstream_module, "WHOLE_SECONDS", 0.5)
    with pytest.raises(UnreachableError, match="did not answer in time"):
        called(api)
    assert api.given_up.wait(30)


def test_a_kept_connection_that_ended_is_no_error(api: ScriptedApi) -> None:
    api.replies[f"{BASE}/wide-mart"] = lambda _: json_reply({"data": [], "next_page": None})

    async def twice(upstream: Upstream) -> None:
        broken = 0

        def breaking(request: httpx2.Request) -> httpx2.Response:
            nonlocal broken
            broken += 1
            if broken == 1:
                raise httpx2.RemoteProtocolError("Server disconnected", request=request)
            return httpx2.Response(200, json={"data": [], "next_page": None})

        upstream._client = httpx2.AsyncClient(
            transport=httpx2.MockTransport(breaking), base_url=upstream.url
        )
        result = await call(upstream, WIDE, {}, token="t")
        assert not result.is_error
        assert broken == 2

    using(api, twice)


def test_the_document_is_compared_by_etag_and_kept_while_the_api_is_lost(api: ScriptedApi) -> None:
    state = {"status": 200}

    def document(_: dict[str, str]) -> Reply:
        if state["status"] == 200:
            return json_reply(DOCUMENT, ETag='"1"')
        return state["status"], "application/problem+json", b'{"detail": "x"}', {}

    api.replies["/openapi.json"] = document

    async def use(upstream: Upstream) -> None:
        callers = Callers(upstream)
        first = await callers.known("t", within_seconds=60)
        assert set(first.operations) == {"get_wide_mart", "list_marts", "get_freshness"}
        asked = len(api.requests)
        assert await callers.known("t", within_seconds=60) is first
        assert len(api.requests) == asked
        for status in (304, 503, 429):
            state["status"] = status
            known = await callers.known("t", within_seconds=0)
            assert known.operations == first.operations
        state["status"] = 401
        with pytest.raises(RefusedError):
            await callers.known("t", within_seconds=0)
        state["status"] = 503
        with pytest.raises(RefusedError):  # Forgotten: a revoked key has no tools any more.
            await callers.known("t", within_seconds=60)

    using(api, use)


def test_a_call_is_made_in_the_trace_of_its_caller(api: ScriptedApi) -> None:
    api.replies[f"{BASE}/wide-mart"] = lambda _: json_reply({"data": [], "next_page": None})
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent: list[str | None] = []

    async def use(upstream: Upstream) -> None:
        server = make_server(upstream, Callers(upstream), lambda _: "t")
        async with Client(server) as client:
            for trace in (parent, "x\r\ny", None):
                meta: Any = {"traceparent": trace} if trace else None
                result = await client.call_tool("get_wide_mart", {}, meta=meta)
                assert not result.is_error
                sent.append(api.headers.get("traceparent"))

    using(api, use)
    assert sent == [parent, None, None]
