"""With the database away: known answers marked as stale, others refused at once, nobody held."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from api_traffic import tell
from api_warehouse import ApiWarehouse, Client, json_of
from known_answers import CHANGED, TOLD, answers_of, is_known, until
from wire_proxy import WireProxy

from api.database import waiting
from api.database.pool import STALLED_SECONDS
from api.state import Limits, state_of
from clusters import make_folder
from warehouse import database

WINDOW: dict[str, Any] = {"from_": "2026-09-01", "to": "2026-09-03"}


@pytest.fixture
def proxy(own: ApiWarehouse) -> Iterator[WireProxy]:
    """What stands between the API and its database."""
    with WireProxy(make_folder(), own.settings.home / "run") as made:
        yield made


@pytest.fixture
def client(own: ApiWarehouse, proxy: WireProxy) -> Iterator[Client]:
    """A client of an app that reaches its database through the proxy, and hears of changes."""
    url = own.settings.api_database_url
    assert url is not None
    behind = replace(
        own.settings,
        api_database_url=f"{url.split('?')[0]}?host={proxy.folder}&port=5432",
        api_stale_seconds=6,
    )
    made = replace(own, settings=behind).client(own.key("away", organization=["alpha"]))
    listener = state_of(made.flask.application).listener
    listener.start()
    until(lambda: answers_of(made).is_current)
    made.get("marts")
    yield made
    listener.stop()


def test_a_known_answer_is_served_as_stale_and_others_are_refused_at_once(
    own: ApiWarehouse, client: Client, proxy: WireProxy
) -> None:
    fresh = client.get("daily-metrics", None, **WINDOW)
    listed = client.get("metadata/refresh")
    marts = client.get("marts")
    proxy.cut_off()
    gone_at = time.monotonic()
    until(lambda: not answers_of(client).is_current)

    stale = client.get("daily-metrics", None, **WINDOW)
    assert json_of(stale)["freshness"] == {**json_of(fresh)["freshness"], "is_stale": True}
    assert json_of(stale)["data"] == json_of(fresh)["data"]
    assert stale.headers["ETag"] != fresh.headers["ETag"]
    assert int(stale.headers["Age"]) >= 0
    assert stale.headers["Content-Length"] == str(len(stale.data))
    assert "detail=stale" in stale.headers["Cache-Status"]
    again = client.get("daily-metrics", {"If-None-Match": stale.headers["ETag"]}, **WINDOW)
    assert (again.status_code, again.headers["ETag"]) == (304, stale.headers["ETag"])
    old = client.get("daily-metrics", {"If-None-Match": fresh.headers["ETag"]}, **WINDOW)
    assert old.status_code == 200
    assert {view["is_stale"] for view in json_of(client.get("metadata/refresh"))["views"]} == {True}
    assert {view["is_stale"] for view in json_of(listed)["views"]} == {False}

    stale_marts = json_of(client.get("marts"))["data"]
    assert {mart["freshness"]["is_stale"] for mart in stale_marts} == {True}
    assert [mart["name"] for mart in stale_marts] == [m["name"] for m in json_of(marts)["data"]]

    started = time.monotonic()
    unknown = client.get("daily-metrics", page_size=7)
    tell(f"away: refused after {time.monotonic() - started:.3f} s")
    assert (unknown.status_code, unknown.headers["Retry-After"]) == (503, "5")
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.json and ready.json["missing"]) == (503, ["database"])
    assert client.get("/health/live").status_code == 200

    until(lambda: client.get("daily-metrics", None, **WINDOW).status_code == 503)
    assert time.monotonic() - gone_at > 5

    own.run(CHANGED + ";" + TOLD)
    proxy.start()
    until(lambda: client.get("/health/ready").status_code == 200)
    back = json_of(client.get("daily-metrics", None, **WINDOW))
    assert back["freshness"]["is_stale"] is False
    assert back["data"][0]["clicks"] == json_of(fresh)["data"][0]["clicks"] + 1
    until(lambda: is_known(client.get("daily-metrics", None, **WINDOW)))


def test_the_status_of_a_stale_answer_is_that_of_the_clock(
    own: ApiWarehouse, client: Client, proxy: WireProxy
) -> None:
    own.run(
        "update metadata.data_versions set stale_after = clock_timestamp() + interval '4 s'"
        " where model = 'daily_metrics'"
    )
    until(lambda: is_known(client.get("daily-metrics")))
    assert json_of(client.get("daily-metrics"))["freshness"]["status"] == "fresh"
    proxy.cut_off()
    until(lambda: client.get("daily-metrics").headers.get("Age") is not None)
    until(lambda: json_of(client.get("daily-metrics"))["freshness"]["status"] == "late")


def test_a_server_that_stands_still_holds_nobody_beyond_the_deadline(own: ApiWarehouse) -> None:
    """The lock stands for a server that keeps no statement timeout: here none is set in time."""
    limits = Limits(statement_timeout_ms=60_000)
    client = own.client(own.key("still", organization=["alpha"]), limits)
    pool = state_of(client.flask.application).pool
    pool._read_seconds = 1.0
    client.get("marts")
    with locked(own):
        started = time.monotonic()
        answer = client.get("daily-metrics")
        seconds = time.monotonic() - started
    tell(f"standing still: given up after {seconds:.2f} s")
    assert answer.status_code == 503
    assert json.loads(answer.text)["type"].endswith(":database-unavailable"), "not its own timeout"
    until(lambda: client.get("daily-metrics").status_code == 200)


def test_a_defect_while_a_query_is_under_way_spoils_no_connection(
    own: ApiWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = own.client(own.key("defect", organization=["alpha"]), Limits(pool_size=1))
    client.get("marts")
    finish = waiting.finish

    def fail(connection: Any, *arguments: Any) -> None:
        if not connection.isexecuting():
            return finish(connection, *arguments)
        monkeypatch.undo()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(waiting, "finish", fail)
    assert client.get("daily-metrics").status_code == 500
    assert waiting.finish is finish, "the fault landed"
    assert client.get("weekly-partner-performance").status_code == 200


def test_where_no_connection_comes_back_others_are_refused_at_once(own: ApiWarehouse) -> None:
    """One who waited instead would get a connection when the hung reads end, and be a 200."""
    limits = Limits(pool_size=2, pool_wait_seconds=3600, statement_timeout_ms=30_000)
    client = own.client(own.key("stalled", organization=["alpha"]), limits)
    client.get("marts")
    with ThreadPoolExecutor(3) as threads, locked(own):
        hung = [threads.submit(client.get, "daily-metrics") for _ in range(2)]
        until(lambda: waiting_reads(own) == 2)
        time.sleep(STALLED_SECONDS + 0.1)
        started = time.monotonic()
        refused = client.get("weekly-partner-performance")
        tell(f"stalled: refused after {time.monotonic() - started:.3f} s")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert json.loads(refused.text)["type"].endswith(":busy")
    assert {future.result().status_code for future in hung} == {200}


def test_what_is_known_is_served_while_no_connection_is_free(own: ApiWarehouse) -> None:
    limits = Limits(pool_size=1, pool_wait_seconds=0.2, remember_keys_seconds=0.1)
    client = own.client(own.key("known", organization=["alpha"]), limits)
    listener = state_of(client.flask.application).listener
    listener.start()
    until(lambda: answers_of(client).is_current)
    client.get("marts")
    until(lambda: is_known(client.get("weekly-partner-performance")))
    with ThreadPoolExecutor(1) as threads:
        with locked(own):
            hung = threads.submit(client.get, "daily-metrics")
            until(lambda: waiting_reads(own) == 1)
            time.sleep(0.2)
            assert client.get("metadata/refresh").status_code == 503
            assert is_known(client.get("weekly-partner-performance"))
            own.run("update metadata.principals set revoked_at = now() where name = 'known'")
            until(lambda: client.get("weekly-partner-performance").status_code == 503)
        assert hung.result().status_code == 200
    until(lambda: client.get("weekly-partner-performance").status_code == 401)
    listener.stop()


def test_a_server_without_room_for_connections_is_not_away(own: ApiWarehouse) -> None:
    client = own.client(own.key("full", organization=["alpha"]), Limits(pool_size=2))
    client.get("marts")
    own.run("alter role oversight_api connection limit 0")
    try:
        with ThreadPoolExecutor(1) as threads:
            with locked(own):
                hung = threads.submit(client.get, "daily-metrics")
                until(lambda: waiting_reads(own) == 1)
                refused = client.get("weekly-partner-performance")
                time.sleep(3)
                assert not state_of(client.flask.application).pool.circuit.is_open
            assert hung.result().status_code == 200
        assert json.loads(refused.text)["type"].endswith(":busy")
        assert client.get("weekly-partner-performance").status_code == 200
    finally:
        own.run("alter role oversight_api connection limit -1")


def test_heavy_reads_leave_room_for_light_ones(own: ApiWarehouse) -> None:
    client = own.client(own.key("heavy", organization=["alpha"]), Limits(pool_size=4))
    other = Client(client.flask, own.key("heavy too", organization=["alpha"]))
    client.get("marts")
    heavy: dict[str, Any] = {"from_": "2026-09-01", "to": "2026-10-30", "page_size": 5000}
    with ThreadPoolExecutor(4) as threads:
        with locked(own):
            first = threads.submit(client.get, "daily-metrics", None, **heavy)
            until(lambda: waiting_reads(own) == 1)
            refused = client.get("daily-metrics", None, **heavy)
            second = threads.submit(other.get, "daily-metrics", None, **heavy)
            until(lambda: waiting_reads(own) == 2)
            assert client.get("weekly-partner-performance").status_code == 200
        assert {first.result().status_code, second.result().status_code} == {200}
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert json.loads(refused.text)["type"].endswith(":busy-heavy")
    assert client.get("daily-metrics", None, **heavy).status_code == 200


def waiting_reads(warehouse: ApiWarehouse) -> int:
    """How many reads of the API wait for a lock."""
    ((count,),) = warehouse.run(
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and application_name = 'oversight-api' and wait_event_type = 'Lock'"
    )
    return int(count)


@contextmanager
def locked(warehouse: ApiWarehouse) -> Iterator[None]:
    """The mart's table locked by another session, so that its reads hang."""
    connection = database.connect(warehouse.settings)
    try:
        with connection.cursor() as cursor:
            cursor.execute("lock table reporting.daily_metrics in access exclusive mode")
        yield
    finally:
        connection.close()
