"""A request keeps its names from the caller's trace to the database's own list of queries."""

import json
import re
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import structlog
from api_warehouse import ApiWarehouse, Client
from hypothesis import given
from hypothesis import strategies as st

from api.app import create_app
from api.watching.trace import Trace
from clusters import Cluster
from warehouse.server_user import existing_data_dir

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
DAILY = "/api/reporting/v1/daily-metrics"


def timing(client: Client, **headers: str) -> str:
    return client.get("marts", headers).headers["Server-Timing"]


@pytest.fixture
def client(read_only: ApiWarehouse) -> Client:
    """A reader whose successful requests are logged by chance one in a thousand million."""
    app = create_app(replace(read_only.settings, log_share=1e-9))
    return Client(app.test_client(), read_only.key(f"traced {time.time_ns()}", organization=["*"]))


@pytest.mark.parametrize("version", ["00", "cc"])
def test_a_caller_s_trace_goes_on_in_a_span_of_its_own(client: Client, version: str) -> None:
    sent = f"{version}-{TRACE}-{PARENT}-01"
    told = timing(client, traceparent=sent)
    (trace, span, flags) = re.findall(r'traceparent;desc="00-(.{32})-(.{16})-(..)"', told)[0]
    assert (trace, flags) == (TRACE, "01")
    assert span != PARENT


@pytest.mark.parametrize(
    "sent",
    [
        "",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01, 00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}*/ select 1; --{PARENT}-01",
    ],
)
def test_what_is_no_trace_is_replaced_by_one(client: Client, sent: str) -> None:
    told = timing(client, traceparent=sent)
    assert TRACE not in told
    assert re.search(r'traceparent;desc="00-[0-9a-f]{32}-[0-9a-f]{16}-00"', told)


def test_server_timing_tells_app_and_database_apart(client: Client) -> None:
    told = client.get("daily-metrics").headers["Server-Timing"]
    (app, db) = map(float, re.findall(r"(?:app|db);dur=(\d+\.\d)", told))
    assert 0 < db <= app


@given(request_id=st.text(), traceparent=st.text())
def test_nothing_that_was_sent_ends_the_comment(request_id: str, traceparent: str) -> None:
    comment = Trace.of(request_id, traceparent, share=0.5).sql_comment()
    form = r"/\*request_id='[\w.-]{1,64}',traceparent='00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]'\*/ "
    assert re.fullmatch(form, comment, re.ASCII)


def test_a_running_query_shows_the_request_that_it_is_of(
    own: ApiWarehouse,
) -> None:
    """Held by a lock, so that it is there to be looked at."""
    client = own.client(own.key("slow", organization=["*"]))
    client.get("daily-metrics")
    holder = "begin; lock table reporting.daily_metrics; select pg_sleep(2); commit"
    threading.Thread(target=own.run, args=(holder,), daemon=True).start()
    wait_for(own, "select from pg_locks where mode = 'AccessExclusiveLock' and granted"
             " and relation = 'reporting.daily_metrics'::regclass")  # fmt: skip
    headers = {"X-Request-Id": "find-me.1", "traceparent": f"00-{TRACE}-{PARENT}-00"}
    asking = threading.Thread(target=client.get, args=("daily-metrics", headers))
    asking.start()
    ((query,),) = wait_for(
        own,
        "select query from pg_stat_activity where usename = 'oversight_api'"
        " and datname = current_database() and wait_event_type = 'Lock'",
    )
    asking.join()
    assert query.startswith(f"/*request_id='find-me.1',traceparent='00-{TRACE}-")


def test_the_server_s_log_of_slow_queries_names_the_request(
    own: ApiWarehouse, server18: Cluster
) -> None:
    name = Cluster.name_of(own.settings)
    own.run(f"alter database {name} set log_min_duration_statement = 0")
    client = own.client(own.key("logged by the server", organization=["*"]))
    for number in range(3):  # The later ones are prepared.
        client.get("daily-metrics", {"X-Request-Id": f"slow-{number}"})
    log = existing_data_dir(server18.settings.home) / "server.log"
    for number in range(3):
        line = rf"duration: .*statement: /\*request_id='slow-{number}',traceparent='00-"
        assert re.search(line, log.read_text(errors="replace")), number


def wait_for(warehouse: ApiWarehouse, query: str) -> list[Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := warehouse.run(query):
            return found
        time.sleep(0.02)
    raise AssertionError(query)


def logged(client: Client, path: str, **headers: str) -> list[dict[str, Any]]:
    with structlog.testing.capture_logs() as lines:
        client.flask.get(path, headers=client.headers() | headers).close()
    return [dict(line) for line in lines if line["event"] == "request"]


def test_successful_reads_are_logged_by_share_and_those_of_recorded_traces_always(
    client: Client, read_only: ApiWarehouse
) -> None:
    assert logged(client, DAILY) == []
    (line,) = logged(client, DAILY, traceparent=f"00-{TRACE}-{PARENT}-01")
    assert (line["trace_id"], line["status"], line["log_level"]) == (TRACE, 200, "info")
    assert 0 < line["db_ms"] <= line["ms"]
    all_of_them = Client(create_app(read_only.settings).test_client(), client.key)
    assert len(logged(all_of_them, DAILY)) == 1


def test_errors_and_slow_ones_are_always_logged(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [line["status"] for line in logged(client, f"{DAILY}?from=x")] == [400]
    monkeypatch.setattr("api.watching.watch.SLOW_SECONDS", 0.0)
    assert [line["log_level"] for line in logged(client, DAILY)] == ["warning"]


def test_a_line_holds_names_of_parameters_and_nothing_that_could_be_a_person(
    client: Client,
) -> None:
    (line,) = logged(client, f"{DAILY}?partner_id=secret-1&jane@example.org=2&from=bad-3")
    text = json.dumps(line)
    assert line["parameters"] == ["from", "partner_id"]
    for hidden in ("secret-1", "jane", "bad-3", client.key or "", "127.0.0.1"):
        assert hidden not in text
