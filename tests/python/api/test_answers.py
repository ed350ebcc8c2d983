"""Answers that are known: their ETags, and that none outlives what it shows."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from api_warehouse import CATALOGUE, DAILY, ApiWarehouse, Client, json_of
from known_answers import CHANGED, TOLD, answers_of, is_known, until

from api.database import waiting
from api.front.answers import HEARD_SECONDS
from api.state import PREFIX, state_of

WINDOW: dict[str, Any] = {"from_": "2026-09-01", "to": "2026-09-03"}


@pytest.fixture
def listening(own: ApiWarehouse) -> Iterator[Client]:
    """A client of an app that hears of changes, as the server's do."""
    client = own.client(own.key("listening", organization=["alpha"]))
    listener = state_of(client.flask.application).listener
    listener.start()
    until(lambda: answers_of(client).is_current)
    client.get("marts")  # What is deployed is known from the first answer on.
    yield client
    listener.stop()


@pytest.mark.parametrize(
    "path",
    ["daily-metrics", "weekly-partner-performance", "marts", "metadata/refresh", "metadata/parity"],
)
def test_every_answer_has_an_etag_that_gives_304(read_only: ApiWarehouse, path: str) -> None:
    client = read_only.client(read_only.key(path.replace("/", " "), organization=["alpha"]))
    first = client.get(path)
    etag = first.headers["ETag"]
    assert len(etag) == 34
    for sent in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = client.get(path, {"If-None-Match": sent})
        assert (again.status_code, again.data) == (304, b"")
        for name in ("ETag", "Cache-Control", "Vary"):
            assert again.headers[name] == first.headers[name]
        assert "Content-Type" not in again.headers
    assert client.get(path, {"If-None-Match": '"other"'}).status_code == 200
    assert first.headers["Cache-Control"].startswith("private")
    assert "Authorization" in first.headers["Vary"]


def test_the_etag_is_of_the_bytes_and_an_error_has_none(read_only: ApiWarehouse) -> None:
    client = read_only.client(read_only.key("etag bytes", organization=["alpha"]))
    one, same = client.get("daily-metrics", **WINDOW), client.get("daily-metrics", **WINDOW)
    other = client.get("daily-metrics", page_size=1, **WINDOW)
    assert one.headers["ETag"] == same.headers["ETag"] != other.headers["ETag"]
    assert "ETag" not in client.get("daily-metrics", page_size=0).headers
    assert "ETag" not in client.get("/health/live").headers


def test_without_a_listening_connection_nothing_is_kept(own: ApiWarehouse) -> None:
    client = own.client(own.key("deaf", organization=["alpha"]))
    assert [is_known(client.get("daily-metrics", **WINDOW)) for _ in range(2)] == [False, False]


def test_behind_a_pooler_nothing_is_kept_and_the_log_says_why(
    own: ApiWarehouse, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pooler's process id is not the server's; LISTEN works there, and nothing is ever told."""
    monkeypatch.setattr(waiting, "ask", lambda *_: -1)
    client = own.client(own.key("pooled", organization=["alpha"]))
    listener = state_of(client.flask.application).listener
    listener.start()
    try:
        until(lambda: "OVERSIGHT_API_DIRECT_DATABASE_URL" in capsys.readouterr().out)
        client.get("marts")
        assert not is_known(client.get("marts"))
    finally:
        listener.stop()


def test_an_answer_is_given_again_until_its_mart_changes(
    own: ApiWarehouse, listening: Client
) -> None:
    first = listening.get("daily-metrics", **WINDOW)
    again = listening.get("daily-metrics", to="2026-09-03", from_="2026-09-01")
    assert (is_known(first), is_known(again)) == (False, True)
    assert again.data == first.data
    of_each = ("X-Request-Id", "Date", "Cache-Status", "Server-Timing", "RateLimit")
    first_headers, again_headers = (
        {name: value for name, value in answer.headers.items() if not name.startswith(of_each)}
        for answer in (first, again)
    )
    assert again_headers == first_headers
    unchanged = listening.get("daily-metrics", {"If-None-Match": first.headers["ETag"]}, **WINDOW)
    assert (is_known(unchanged), unchanged.status_code) == (True, 304)
    assert "Content-Type" not in unchanged.headers

    other = listening.get("weekly-partner-performance")
    own.run(CHANGED + ";" + TOLD)
    until(lambda: not is_known(listening.get("daily-metrics", **WINDOW)))
    after = json_of(listening.get("daily-metrics", **WINDOW))
    assert after["data"][0]["clicks"] == json_of(first)["data"][0]["clicks"] + 1
    assert is_known(listening.get("weekly-partner-performance"))
    assert listening.get("weekly-partner-performance").data == other.data


def test_head_has_the_headers_of_a_known_answer_and_no_body(listening: Client) -> None:
    listening.get("daily-metrics", **WINDOW)
    path = f"{PREFIX}/daily-metrics?from=2026-09-01&to=2026-09-03"
    head = listening.flask.head(path, headers=listening.headers())
    assert is_known(head)
    full = listening.flask.get(path, headers=listening.headers())
    assert head.data == b""
    assert head.headers["ETag"] == full.headers["ETag"]
    assert head.headers["Content-Length"] == str(len(full.data))


def test_other_scopes_and_roles_have_answers_of_their_own(
    own: ApiWarehouse, listening: Client
) -> None:
    first = listening.get("daily-metrics", **WINDOW)
    assert is_known(listening.get("daily-metrics", **WINDOW))
    keys = {
        "beta": own.key("beta", organization=["beta"]),
        "fewer": own.key("fewer", organization=["alpha"], partner=["reddit_ads:1"]),
        "agent": own.key("agent", role="agent", organization=["alpha"]),
        "none": own.key("none", organization=["nobody"]),
    }
    answers = {
        name: Client(listening.flask, key).get("daily-metrics", **WINDOW)
        for name, key in keys.items()
    }
    assert not any(is_known(answer) for answer in answers.values())
    assert answers["agent"].data == first.data
    assert json_of(answers["beta"])["data"] != json_of(first)["data"]
    assert len(json_of(answers["fewer"])["data"]) == 3
    assert json_of(answers["none"])["data"] == []
    same = own.key("same scope", organization=["alpha"])
    assert is_known(Client(listening.flask, same).get("daily-metrics", **WINDOW))


@pytest.mark.parametrize(
    "change",
    [
        "insert into metadata.held_keys values ('daily_metrics', 'alpha', '{}')",
        "insert into metadata.parity_verdicts (organization_id, mart, metric, verdict)"
        " values ('alpha', 'daily_metrics', 'spend', 'failed')",
        "insert into metadata.mart_sources values ('daily_metrics', 'reddit_ads', 'report');"
        "insert into metadata.batches (engine, status, path) values ('reddit_ads', 'landed', '');"
        "insert into metadata.batch_tables select batch_id, engine, 'report', 'alpha', 1, 0, now()"
        " from metadata.batches",
    ],
    ids=["held", "parity", "landed"],
)
def test_what_the_freshness_block_says_ends_an_answer(
    own: ApiWarehouse, listening: Client, change: str
) -> None:
    listening.get("daily-metrics")
    before = listening.get("daily-metrics")
    assert is_known(before)
    own.run(change)
    until(lambda: not is_known(listening.get("daily-metrics")))
    after = listening.get("daily-metrics")
    assert json_of(after)["freshness"] != json_of(before)["freshness"]
    assert after.headers["ETag"] != before.headers["ETag"]


def test_a_run_ends_the_answer_that_lists_runs_and_a_heartbeat_does_not(
    own: ApiWarehouse, listening: Client
) -> None:
    own.run("insert into metadata.refresh_log (job_name) values ('daily_metrics')")
    listening.get("daily-metrics", **WINDOW)
    until(lambda: is_known(listening.get("metadata/refresh")))
    own.run("update metadata.refresh_log set heartbeat_at = clock_timestamp()")
    own.run("notify oversight_data, 'another mart'")
    time.sleep(0.3)
    assert is_known(listening.get("metadata/refresh"))
    own.run("update metadata.refresh_log set status = 'success', finished_at = now()")
    until(lambda: not is_known(listening.get("metadata/refresh")))
    assert json_of(listening.get("metadata/refresh"))["runs"][0]["status"] == "success"
    assert is_known(listening.get("daily-metrics", **WINDOW))


def test_an_answer_ends_when_its_mart_becomes_late(own: ApiWarehouse, listening: Client) -> None:
    paths = ("daily-metrics", "marts", "metadata/refresh")
    own.run(
        "update metadata.data_versions set stale_after = clock_timestamp() + interval '4 s'"
        " where model = 'daily_metrics'"
    )
    until(lambda: all(is_known(listening.get(path)) for path in paths))
    assert not any("late" in states(listening.get(path).text) for path in paths)
    until(lambda: all("late" in states(listening.get(path).text) for path in paths), 8)


def states(text: str) -> set[str]:
    """What the freshness blocks of an answer say."""
    return set(re.findall(r'"status" ?: ?"(fresh|late|never)"', text))


def test_a_deployment_ends_all_answers(own: ApiWarehouse, listening: Client) -> None:
    listening.get("marts")
    assert is_known(listening.get("marts"))
    described = replace(DAILY, description="Described anew.")
    own.deploy(replace(CATALOGUE, marts=(described, *CATALOGUE.marts[1:])))
    until(lambda: "Described anew." in listening.get("marts").text)


def test_an_answer_that_was_read_before_a_change_was_heard_of_is_not_kept(
    own: ApiWarehouse, listening: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race: the rows were read, then the mart changed, then the answer would be kept."""
    from api.reporting import query

    made: list[Any] = []
    page_of = query.page_of

    def slow(*arguments: Any) -> Any:
        if not made:
            generation = answers_of(listening).generation
            own.run(CHANGED + ";" + TOLD)
            until(lambda: answers_of(listening).generation > generation)
        made.append(arguments)
        return page_of(*arguments)

    monkeypatch.setattr(query, "page_of", slow)
    old = json_of(listening.get("daily-metrics", **WINDOW))
    new = listening.get("daily-metrics", **WINDOW)
    assert not is_known(new)
    assert json_of(new)["data"][0]["clicks"] == old["data"][0]["clicks"] + 1


def test_the_answers_stay_within_their_bound(own: ApiWarehouse) -> None:
    small = replace(own.settings, api_cache_mb=1)
    client = replace(own, settings=small).client(own.key("bound", organization=["alpha"]))
    listener = state_of(client.flask.application).listener
    listener.start()
    try:
        answers = answers_of(client)
        until(lambda: answers.is_current)
        for day in range(1, 31):
            for size in range(60, 120):
                client.get("daily-metrics", from_=f"2026-09-{day:02}", page_size=size)
                if day > 3:
                    break
        assert answers.bytes <= 1024 * 1024
        assert is_known(client.get("daily-metrics", from_="2026-09-30", page_size=60))
        assert not is_known(client.get("daily-metrics", from_="2026-09-01", page_size=60))
    finally:
        listener.stop()


def test_nothing_heard_means_nothing_known(own: ApiWarehouse, listening: Client) -> None:
    """A connection that was ended: a change meanwhile shows; then answers are kept again."""
    listening.get("daily-metrics", **WINDOW)
    assert is_known(listening.get("daily-metrics", **WINDOW))
    ended = own.run(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where application_name = 'oversight-api-listen' and datname = current_database()"
    )
    assert ended == [(1,)]
    own.run(CHANGED + ";" + TOLD)
    until(lambda: not is_known(listening.get("daily-metrics", **WINDOW)), HEARD_SECONDS)
    assert json_of(listening.get("daily-metrics", **WINDOW))["data"][0]["clicks"] == 10**17 + 1
    until(lambda: is_known(listening.get("daily-metrics", **WINDOW)))
    assert json_of(listening.get("daily-metrics", **WINDOW))["data"][0]["clicks"] == 10**17 + 1
