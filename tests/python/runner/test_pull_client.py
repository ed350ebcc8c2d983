"""How an engine is asked: again when that may help, an error at once where it can't, no secret out.

Every server here is a real socket that answers as its script says.
"""

from __future__ import annotations

import gzip
import itertools
import json
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from landings import SPEND
from scripted import Part, Script, Scripted, answer, scripted

from runner.pull.access import Access
from runner.pull.client import Client, Patience
from runner.pull.errors import PullError
from runner.pull.fetch import Fetched, fetch_table
from warehouse.endpoints import Endpoint, Paging, Place

SECRET = "the-secret-of-the-shop"
ROWS = json.dumps([{"id": "a", "amount": 0.30000000000000004}, {"id": "b"}]).encode()
CURSOR = Paging(kind="cursor", parameter="cursor", next=Place(kind="body", name="paging.next"))
PAGES = Paging(kind="page", parameter="page", size_parameter="size", size=2)
HEAD = b"HTTP/1.1 200 OK\r\n"


def endpoint(**changes: Any) -> Endpoint:
    fields: dict[str, Any] = {
        "url_variable": "SHOP_URL",
        "cadence": "* * * * *",
        "path": "/spend",
        "secret_variable": "SHOP_TOKEN",
        "timeout_seconds": 5,
        "requests_per_second": 1000.0,
    }
    return Endpoint(**fields | changes)


class Asking:
    """Fetches the table `shop.spend` from a script, and keeps how long it waited."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waits: list[float] = []
        self.secret = SECRET

    def fetch(self, server: Scripted, patience: Patience | None = None, **changes: Any) -> Fetched:
        access = Access(
            base_url=server.url,
            header="X-Key",
            value=self.secret,
            secret=self.secret,
            secret_variable="SHOP_TOKEN",
        )
        patient = patience or Patience(attempts=3, first_wait_seconds=0.001)
        with Client(access, patience=patient, wait=self._wait) as client:
            return fetch_table(client, SPEND, endpoint(**changes), {}, folder=self.folder, mark="x")

    def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        time.sleep(seconds)

    def error(self, script: Script, **changes: Any) -> str:
        with scripted(script) as server:
            with pytest.raises(PullError) as caught:
                self.fetch(server, **changes)
            self.requests = len(server.requests)
        text = str(caught.value)
        assert self.secret not in text
        return text

    def lines(self) -> list[Any]:
        (path,) = (path for path in self.folder.iterdir() if path.suffix == ".jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def asking(tmp_path: Path) -> Asking:
    return Asking(tmp_path)


CUT: dict[str, list[Part]] = {
    "shorter than its length": [HEAD + b"Content-Length: 90\r\n\r\n" + ROWS[:40]],
    "chunks without an end": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\n[{}]\r\n"],
    "in a chunk": [HEAD + b"Transfer-Encoding: chunked\r\n\r\n40\r\n[{}]"],
    "in the JSON, of the right length": answer(ROWS[:-9]),
    "in a compressed JSON": answer(gzip.compress(ROWS)[:-12], Content_Encoding="gzip"),
    "in the status line": [b"HTTP/1.1 20"],
    "before anything": [b""],
    "another thing than JSON": answer(b"<html>please wait</html>"),
}


@pytest.mark.parametrize("cut", CUT.values(), ids=CUT)
def test_a_cut_answer_is_asked_for_again(asking: Asking, cut: list[Part]) -> None:
    with scripted([cut, answer(ROWS)]) as server:
        assert asking.fetch(server).rows == 2
        assert len(server.requests) == 2
    assert asking.lines() == [{"id": "a", "amount": "0.30000000000000004"}, {"id": "b"}]


@pytest.mark.parametrize("cut", CUT.values(), ids=CUT)
def test_one_that_stays_cut_is_an_error_that_names_it(asking: Asking, cut: list[Part]) -> None:
    text = asking.error([cut])
    assert text.startswith("shop.spend, page 1 from http://127.0.0.1:")
    assert "/spend: " in text
    assert "3 times; nothing landed" in text
    assert asking.requests == 3
    assert list(asking.folder.iterdir()) == []


@pytest.mark.parametrize("status", ["500 Oh", "502 Oh", "503 Oh", "504 Oh", "429 Oh", "408 Oh"])
def test_passing_states_are_asked_again(asking: Asking, status: str) -> None:
    with scripted([answer(b"no", status), answer(b"no", status), answer(ROWS)]) as server:
        assert asking.fetch(server).rows == 2
        assert len(server.requests) == 3


def test_waits_grow(asking: Asking) -> None:
    with scripted([answer(b"no", "500 Oh")]) as server, pytest.raises(PullError):
        asking.fetch(server, Patience(attempts=5, first_wait_seconds=0.01))
    grown = [seconds for seconds in asking.waits if seconds > 0.005]
    assert len(grown) == 4
    for number, seconds in enumerate(grown):
        assert 0.01 * 2**number <= seconds <= 0.01 * 2**number + 0.01


def test_a_wait_asked_for_in_seconds_is_kept(asking: Asking) -> None:
    with scripted([answer(b"no", "429 Oh", Retry_After="1"), answer(ROWS)]) as server:
        asking.fetch(server)
        first, second = server.moments
    assert second - first >= 1


def test_a_wait_asked_for_as_a_date_is_kept(asking: Asking) -> None:
    until = (datetime.now(timezone.utc) + timedelta(seconds=2)).replace(microsecond=0)
    date = format_datetime(until, usegmt=True)
    with scripted([answer(b"no", "503 Oh", Retry_After=date), answer(ROWS)]) as server:
        asking.fetch(server)
    assert len(server.requests) == 2
    assert datetime.now(timezone.utc) >= until


def test_a_wait_that_is_too_long_is_an_error_at_once(asking: Asking) -> None:
    text = asking.error([answer(b"no", "429 Oh", Retry_After="3600")])
    assert "it asks to wait 3600 s, longer than 300 s" in text
    assert asking.requests == 1


@pytest.mark.parametrize("status", ["401 Oh", "403 Oh"])
def test_a_refusal_is_an_error_at_once_that_names_the_variable(asking: Asking, status: str) -> None:
    text = asking.error([answer(SECRET.encode(), status)])
    assert "it refuses us; check SHOP_TOKEN" in text
    assert asking.requests == 1


def test_another_status_is_an_error_at_once_that_shows_what_was_said(asking: Asking) -> None:
    text = asking.error([answer(f"no\nsuch {SECRET} \x1b[31m".encode(), "404 Oh")])
    assert "status 404: 'no such *** \\x1b[31m'" in text
    assert asking.requests == 1


@pytest.mark.parametrize("before", [150, 180, 195, 199, 790])
@pytest.mark.parametrize("status", ["404 Oh", "200 OK"])
def test_of_a_secret_that_is_cut_nothing_shows(asking: Asking, before: int, status: str) -> None:
    for filler in ("x" * before, "x" * 30 + " " * (before - 30)):
        text = asking.error([answer(f"{filler}{SECRET} is wrong".encode(), status)])
        assert "xxx" in text, "the answer is shown"
        assert SECRET[:4] not in text


@pytest.mark.parametrize("as_json", [False, True])
def test_a_secret_with_quotes_and_backslashes_is_hidden(asking: Asking, as_json: bool) -> None:
    asking.secret = r"""it's a "se\cret" \ of ours"""
    echoed = json.dumps({"key": asking.secret}) if as_json else f"key {asking.secret} is wrong"
    text = asking.error([answer(echoed.encode(), "404 Oh")])
    assert "***" in text
    assert "cret" not in text
    assert "ours" not in text


@pytest.mark.parametrize(
    "asked", [b"\xb2", b"soon", b"Mon, 20 Nov 1995 19:12:08 +9999999999999999"]
)
def test_a_wait_that_says_nothing_is_left_aside(asking: Asking, asked: bytes) -> None:
    busy: list[Part] = [
        b"HTTP/1.1 429 Oh\r\nContent-Length: 0\r\nRetry-After: " + asked + b"\r\n\r\n"
    ]
    with scripted([busy, answer(ROWS)]) as server:
        assert asking.fetch(server).rows == 2
        assert len(server.requests) == 2


@pytest.mark.parametrize("place", ["http://127.0.0.1:99999/x", "http://h:port/x", "http://[h/x"])
def test_a_redirect_to_what_is_no_address_is_an_error_at_once(asking: Asking, place: str) -> None:
    text = asking.error([answer(b"", "302 Found", Location=place)])
    assert "its address, or the one it redirects to, is none" in text
    assert asking.requests == 1


def test_silence_and_a_trickle_end_at_the_timeout(asking: Asking) -> None:
    silent: list[Part] = [3.0]
    trickle: list[Part] = [HEAD + b"Content-Length: 1000\r\n\r\n"]
    for _ in range(40):
        trickle += [b" ", 0.1]
    with scripted([silent, trickle, answer(ROWS)]) as server:
        assert asking.fetch(server, timeout_seconds=1).rows == 2
        first, second, third = server.moments
    assert 1 <= second - first < 3
    assert 1 <= third - second < 3


def test_a_redirect_on_the_host_is_followed(asking: Asking) -> None:
    moved = answer(b"", "302 Found", Location="/elsewhere?x=1")
    with scripted([moved, answer(ROWS)]) as server:
        assert asking.fetch(server).rows == 2
        assert server.paths() == ["/spend", "/elsewhere?x=1"]
        assert all(SECRET in request for request in server.requests)


def test_a_redirect_to_another_host_is_refused_and_the_secret_not_sent(asking: Asking) -> None:
    with scripted([answer(ROWS)]) as other:
        text = asking.error([answer(b"", "307 Moved", Location=f"{other.url}/spend?key=private")])
        assert f"it redirects to {other.url}, which the secret was not sent to" in text
        assert "private" not in text
    assert other.requests == []


def test_a_redirect_in_a_circle_ends(asking: Asking) -> None:
    text = asking.error([answer(b"", "302 Found", Location="/spend")])
    assert "it redirects more than 5 times" in text
    assert asking.requests == 6


@pytest.mark.parametrize("is_compressed", [False, True])
def test_an_answer_over_the_limit_is_refused(asking: Asking, is_compressed: bool) -> None:
    body = b"[" + b" " * 1_000_000 + b"]"
    whole = answer(body)
    if is_compressed:
        whole = answer(gzip.compress(body), Content_Encoding="gzip")
    text = asking.error([whole], max_bytes=500_000)
    assert "the answer is longer than max_bytes, 500,000" in text
    assert asking.requests == 1


def test_requests_keep_to_the_rate(asking: Asking) -> None:
    pages = [answer(json.dumps([{"id": str(n)}]).encode()) for n in range(5)]
    with scripted([*pages, answer(b"[]")]) as server:
        fetched = asking.fetch(server, paging=PAGES, requests_per_second=20.0)
    assert (fetched.rows, fetched.pages) == (5, 6)
    gaps = [b - a for a, b in itertools.pairwise(server.moments)]
    assert min(gaps) > 0.04, gaps
    assert server.paths()[:2] == ["/spend?size=2&page=1", "/spend?size=2&page=2"]


def _page(rows: list[str], following: object) -> list[Part]:
    body = {"rows": [{"id": name} for name in rows], "paging": {"next": following}}
    return answer(json.dumps(body).encode())


def test_cursors_are_followed_to_the_end(asking: Asking) -> None:
    script = [_page(["a"], "x/y&z"), _page([], 17), _page(["b"], None)]
    with scripted(script) as server:
        fetched = asking.fetch(server, paging=CURSOR, rows="rows")
    assert (fetched.rows, fetched.pages) == (2, 3)
    assert server.paths() == ["/spend", "/spend?cursor=x%2Fy%26z", "/spend?cursor=17"]
    assert asking.lines() == [{"id": "a"}, {"id": "b"}]
    (control,) = asking.folder.glob("*.control.json")
    assert json.loads(control.read_text()) == {"records": 2}


def test_a_page_that_came_already_is_asked_for_again(asking: Asking) -> None:
    first, second = _page(["a"], "x"), _page(["b"], None)
    with scripted([first, first, second]) as server:
        assert asking.fetch(server, paging=CURSOR, rows="rows").rows == 2
    assert server.paths()[1:] == ["/spend?cursor=x", "/spend?cursor=x"]
    assert asking.lines() == [{"id": "a"}, {"id": "b"}]


def test_an_engine_that_always_gives_the_same_page_is_an_error(asking: Asking) -> None:
    text = asking.error([answer(ROWS)], paging=PAGES)
    assert "page 2 from " in text
    assert "the answer repeats page 1" in text
    assert asking.requests == 4


def test_cursors_in_a_circle_are_an_error(asking: Asking) -> None:
    count = 0

    def circle(_request: str) -> list[Part]:
        nonlocal count
        count += 1
        return _page([str(count)], f"c{count % 2}")

    text = asking.error(circle, paging=CURSOR, rows="rows")
    assert "names a next page that was read already" in text
    assert asking.requests == 5


def test_pages_without_an_end_stop_at_the_limit(asking: Asking) -> None:
    count = 0

    def endless(_request: str) -> list[Part]:
        nonlocal count
        count += 1
        return _page([str(count)], count)

    text = asking.error(endless, paging=CURSOR, rows="rows", max_pages=7)
    assert "more than max_pages, 7, came" in text
    assert asking.requests == 7


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_lines_without_a_length_are_refused(asking: Asking, kind: str) -> None:
    text = asking.error([[HEAD + b"\r\n" + b'{"id": "a"}\n']], format=kind)
    assert "neither Content-Length nor chunks" in text


def test_cut_lines_of_the_right_length_are_asked_for_again(asking: Asking) -> None:
    lines = b'{"id": "a"}\n{"id": "b"}'
    with scripted([answer(lines[:-3]), answer(lines)]) as server:
        assert asking.fetch(server, format="jsonl").rows == 2
    assert len(server.requests) == 2
    assert "Accept-Encoding: identity" in server.requests[0]
    assert asking.lines() == [{"id": "a"}, {"id": "b"}]


def test_csv_comes_in_a_file_a_page(asking: Asking) -> None:
    pages = [answer(f"id,amount\n{name},1\n".encode()) for name in "ab"]
    with scripted([*pages, answer(b"id,amount\n")]) as server:
        fetched = asking.fetch(server, format="csv", paging=PAGES)
    assert (fetched.rows, fetched.pages, len(server.requests)) == (2, 3, 3)
    names = sorted(path.name for path in asking.folder.iterdir())
    assert names == [
        "spend_x_00001.csv",
        "spend_x_00001.csv.control.json",
        "spend_x_00002.csv",
        "spend_x_00002.csv.control.json",
    ]


@pytest.mark.parametrize("body", [b'{"data": {"rows": 3}}', b"[]", b'{"rows": []}', b"null"])
def test_an_answer_without_its_list_is_an_error_at_once(asking: Asking, body: bytes) -> None:
    assert "no list of rows below 'data.rows'" in asking.error([answer(body)], rows="data.rows")
    assert asking.requests == 1


def test_a_host_that_is_not_there_is_an_error_in_the_end(asking: Asking) -> None:
    with scripted([answer(ROWS)]) as server:
        pass
    with pytest.raises(PullError, match="Connection refused, 3 times; nothing landed"):
        asking.fetch(server)


def test_a_netrc_does_not_take_the_secret_s_place(
    asking: Asking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with scripted([answer(ROWS)]) as server:
        asking.fetch(server)
    assert f"X-Key: {SECRET}" in server.requests[0]
    assert "Authorization" not in server.requests[0]
