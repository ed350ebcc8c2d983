"""Rate limits: exactly as many as the tier may ask, over two worker processes, and who is told."""

from __future__ import annotations

import fcntl
import http.client
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from api_warehouse import ApiWarehouse, Client
from server_process import ServerProcess
from structlog.testing import capture_logs

from api.access.counters import SharedCounters
from api.app import create_app
from api.problems import ApiError
from api.state import Limits
from warehouse import database
from warehouse.keys import create_key, rotate_key
from warehouse.settings import RateLimit

MOST, TOO_MANY = 150, 50
HEADERS = ("RateLimit-Policy", "RateLimit", "RateLimit-Limit", "RateLimit-Remaining",
           "RateLimit-Reset")  # fmt: skip


@pytest.fixture
def limited(read_only: ApiWarehouse, tmp_path: Path) -> ApiWarehouse:
    """A warehouse whose callers may ask three times an hour, or five."""
    limits = {"standard": RateLimit(amount=3, seconds=3600)}
    limits["enterprise"] = RateLimit(amount=5, seconds=60)
    return replace(
        read_only, settings=replace(read_only.settings, home=tmp_path, rate_limits=limits)
    )


@pytest.fixture
def served(read_only: ApiWarehouse, tmp_path: Path) -> Iterator[ServerProcess]:
    """Two workers that let a caller ask 150 times an hour."""
    server = ServerProcess(
        read_only,
        tmp_path / "log",
        OVERSIGHT_HOME=str(tmp_path),
        OVERSIGHT_RATE_LIMITS=f"standard={MOST}/hour",
    )
    try:
        server.wait_until_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def ask(port: int, key: str) -> tuple[int, int, str]:
    """Status, requests left, and the seconds to wait."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/api/reporting/v1/marts", headers={"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    left = int(answer.headers["RateLimit-Remaining"])
    return answer.status, left, answer.headers.get("Retry-After", "")


def test_of_200_at_once_over_two_workers_exactly_150_pass(
    read_only: ApiWarehouse, served: ServerProcess
) -> None:
    key = read_only.key("two hundred at once", organization=["alpha"])
    assert len(served.children()) == 2
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: ask(served.port, key), range(MOST + TOO_MANY)))
    assert Counter(status for status, _, _ in answers) == {200: MOST, 429: TOO_MANY}
    assert sorted(left for status, left, _ in answers if status == 200) == list(range(MOST))
    assert all(0 < int(wait) <= 3600 for status, _, wait in answers if status == 429)
    workers = Counter(line["process"] for line in served.requests() if line["status"] == 200)
    assert len(workers) == 2, "only one worker was asked"

    served.stop()
    again = ServerProcess(
        read_only,
        served.log.with_name("log of the second"),
        OVERSIGHT_HOME=str(served.log.parent),
        OVERSIGHT_RATE_LIMITS=f"standard={MOST}/hour",
    )
    try:
        again.wait_until_ready()
        assert ask(again.port, key)[0] == 429, "forgotten with the server"
    finally:
        again.stop()


def test_every_answer_says_where_its_caller_stands(limited: ApiWarehouse) -> None:
    client = limited.client(limited.key("counted", organization=["alpha"]))
    answers = [client.get(path) for path in ("marts", "nothing-here", "daily-metrics", "marts")]
    assert [answer.status_code for answer in answers] == [200, 404, 200, 429]
    for left, answer in zip((2, 1, 0, 0), answers, strict=True):
        assert answer.headers["RateLimit-Policy"] == '"standard";q=3;w=3600'
        match = re.fullmatch(r'"standard";r=(\d+);t=(\d+)', answer.headers["RateLimit"])
        assert match is not None
        assert (int(match[1]), int(answer.headers["RateLimit-Remaining"])) == (left, left)
        assert 3500 < int(match[2]) == int(answer.headers["RateLimit-Reset"]) <= 3600
        assert answer.headers["RateLimit-Limit"] == "3"
    refused = answers[-1]
    assert refused.content_type == "application/problem+json"
    assert refused.get_json()["type"] == "urn:oversight:problem:rate-limited"
    assert 3500 < int(refused.headers["Retry-After"]) <= 3600


def test_what_needs_no_key_is_not_counted_and_tells_nothing(limited: ApiWarehouse) -> None:
    client = limited.client(None)
    answers = [client.get("/health/live") for _ in range(10)] + [client.get("marts")]
    assert [answer.status_code for answer in answers] == [200] * 10 + [401]
    for answer in answers:
        assert not set(HEADERS) & set(answer.headers.keys())


def test_each_caller_has_its_own_limit_and_a_new_key_is_the_same_caller(
    limited: ApiWarehouse,
) -> None:
    connection = database.connect(limited.settings, autocommit=True)
    scope = {"organization": ["alpha"]}
    rich = create_key(connection, name="rich", role="reader", scope=scope, tier="enterprise")
    poor = create_key(connection, name="poor", role="reader", scope=scope)
    client = limited.client(None, Limits(remember_keys_seconds=0))

    def statuses(key: str, times: int) -> list[int]:
        return [Client(client.flask, key).get("marts").status_code for _ in range(times)]

    assert statuses(rich, 6) == [200] * 5 + [429]
    assert statuses(poor, 2) == [200] * 2
    renewed = rotate_key(connection, "poor")
    assert statuses(renewed, 2) == [200, 429]
    connection.close()


def test_answers_that_are_known_already_count_too(limited: ApiWarehouse) -> None:
    client = limited.client(limited.key("knows", organization=["alpha"]))
    tag = client.get("daily-metrics").headers.get("ETag", '"x"')
    for status in ((200, 304), (200, 304), (429,)):
        assert client.get("daily-metrics", {"If-None-Match": tag}).status_code in status


def test_strangers_are_held_up_after_so_many_and_known_callers_are_not(
    read_only: ApiWarehouse,
) -> None:
    known = read_only.key("known caller", organization=["alpha"])
    new = read_only.key("new caller", organization=["alpha"])
    limits = Limits(refusals_per_minute=5, remember_keys_seconds=0)
    client = read_only.client(None, limits)

    def status(key: str, address: str = "192.0.2.1") -> int:
        headers = {"Authorization": f"Bearer {key}"}
        answer = client.flask.get(
            "/api/reporting/v1/marts", headers=headers, environ_base={"REMOTE_ADDR": address}
        )
        assert (answer.status_code == 429) == ("Retry-After" in answer.headers)
        return answer.status_code

    assert status(known) == 200
    wrong = [f"ov_{number:043}" for number in range(7)]
    assert [status(key) for key in wrong] == [401] * 5 + [429] * 2
    assert status(known) == 200
    assert status(new) == 429
    assert status(new, "192.0.2.2") == 200
    for number, expected in enumerate([401] * 5 + [429]):
        assert status(wrong[0], f"2001:db8:0:1::{number}") == expected
    assert status(wrong[0], "2001:db8:0:2::1") == 401


def test_a_file_that_cannot_be_written_stops_the_start(
    read_only: ApiWarehouse, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ApiError, match=r"requests can't be counted.*OVERSIGHT_HOME"):
        create_app(replace(read_only.settings, home=tmp_path / "file"))


def test_when_nothing_can_count_requests_pass_and_the_log_says_so(
    limited: ApiWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = limited.client(limited.key("uncounted", organization=["alpha"]))
    other = SharedCounters(limited.settings.home / "rates.counters")
    monkeypatch.setattr("api.access.counters._PATIENCE_SECONDS", 0.1)
    assert client.get("marts").status_code == 200
    fcntl.flock(other._file, fcntl.LOCK_EX)
    try:
        with capture_logs() as logs:
            answers = [client.get("marts") for _ in range(4)]
    finally:
        fcntl.flock(other._file, fcntl.LOCK_UN)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert not set(HEADERS) & set(answers[0].headers.keys())
    assert [line["event"] for line in logs if line["log_level"] == "error"] == [
        "requests pass uncounted"
    ]
    later = time.monotonic() + 60
    monkeypatch.setattr("time.monotonic", lambda: later)
    assert client.get("marts").headers["RateLimit-Remaining"] == "1"
    assert (limited.settings.home / "rates.counters").stat().st_size < 3_000_000
