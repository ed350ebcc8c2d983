"""Marts as CSV and NDJSON: whole, from one snapshot, bounded, and never cut without a word."""

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from api_warehouse import CATALOGUE, DAILY, ApiWarehouse, Client, column, create_mart, json_of
from psycopg2.sql import SQL
from werkzeug.test import TestResponse

from api.reporting import export
from api.state import EXPORTS_AT_ONCE, Limits

CSV = {"Accept": "text/csv"}
NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture(scope="module")
def client(read_only: ApiWarehouse) -> Client:
    """A reader of organization alpha."""
    return read_only.client(read_only.key("exports", organization=["alpha"]))


def table(response: TestResponse) -> list[dict[str, str]]:
    """The rows of a CSV answer."""
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    return list(csv.DictReader(io.StringIO(response.text, newline="")))


def test_both_formats_hold_the_rows_of_json_with_all_their_digits(client: Client) -> None:
    query = {"from_": "2026-09-01", "to": "2026-09-30"}
    whole = json_of(client.get("daily-metrics", None, **query))
    as_csv = client.get("daily-metrics", CSV, **query)
    assert as_csv.text.startswith(
        'day,partner_id,spend,clicks\r\n2026-09-01,"google_ads:1",2.0000100,100000000000000000\r\n'
    )
    assert table(as_csv) == [
        {name: str(value) for name, value in row.items()} for row in whole["data"]
    ]
    lines = client.get("daily-metrics", NDJSON, **query)
    assert lines.headers["Content-Type"] == "application/x-ndjson"
    assert '"spend":0.0000100' in lines.text
    assert lines.text.endswith("}\n")
    page = client.get("daily-metrics", None, **query).text
    assert ",".join(lines.text.splitlines()) == page[len('{"data":[') : page.index("],")]


def test_what_json_says_beside_the_rows_is_in_headers(client: Client) -> None:
    body = json_of(client.get("daily-metrics"))
    for headers in (CSV, NDJSON):
        told = client.get("daily-metrics", headers).headers
        fresh = body["freshness"]
        assert told["Oversight-Last-Refresh-At"] == fresh["last_refresh_at"]
        assert told["Oversight-Data-Through"] == fresh["data_through"]
        assert told["Oversight-Sla-Seconds"] == "900"
        assert "Oversight-Late-After" not in told
        assert (told["Oversight-Status"], told["Oversight-Parity"]) == ("fresh", fresh["parity"])
        assert told["Oversight-Is-Stale"] == "false"
        window = (told["Oversight-Window-From"], told["Oversight-Window-To"])
        assert window == (body["window"]["from"], body["window"]["to"])
        assert told["Oversight-Row-Count"] == "90"
        assert "Link" not in told


@pytest.mark.parametrize("page_size", [1, 7, 89, 90, 91])
def test_pages_joined_are_the_whole(client: Client, page_size: int) -> None:
    whole = client.get("daily-metrics", NDJSON, fields="spend").text
    joined = ""
    query: dict[str, str] = {}
    while True:
        response = client.get("daily-metrics", NDJSON, fields="spend", page_size=page_size, **query)
        joined += response.text
        if "Link" not in response.headers:
            break
        token = response.headers["Oversight-Next-Page"]
        assert response.headers["Link"].endswith(f'&page={token}>; rel="next"')
        assert response.headers["Oversight-Row-Count"] == str(page_size)
        query = {"page": token}
    assert joined == whole
    assert joined.count("\n") == 90


def test_a_page_of_json_goes_on_as_csv(client: Client) -> None:
    first = json_of(client.get("daily-metrics", page_size=80))
    rest = table(client.get("daily-metrics", CSV, page=first["next_page"]))
    assert len(rest) == 10
    keys = [(row["day"], row["partner_id"]) for row in [*first["data"], *rest]]
    assert keys == sorted(set(keys))


def test_nothing_is_a_header_line_or_nothing(client: Client) -> None:
    query = {"from_": "2020-01-01", "to": "2020-01-02"}
    assert client.get("daily-metrics", CSV, **query).text == "day,partner_id,spend,clicks\r\n"
    assert client.get("daily-metrics", NDJSON, **query).text == ""


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv;q=0.5, application/x-ndjson;q=0.4, application/json;q=0.1", "text/csv"),
        ("application/json;q=0.4, application/x-ndjson", "application/x-ndjson"),
        ("text/csv, application/json", "application/json"),
        ("text/*", "text/csv"),
        ("application/json;q=0, */*;q=0.1", "text/csv"),
    ],
)
def test_the_preferred_media_type_is_answered(client: Client, accept: str, kind: str) -> None:
    response = client.get("daily-metrics", {"Accept": accept})
    assert response.mimetype == kind
    assert "Accept" in response.headers["Vary"]


@pytest.fixture
def texts(own: ApiWarehouse) -> ApiWarehouse:
    """A mart of texts that are hard to write down."""
    columns = (
        *DAILY.columns[:3],
        column("note", "text", is_required=False),
        column("amount", "numeric", is_required=False),
        column("seen_at", "timestamptz", is_required=False),
        column("is_paid", "boolean", is_required=False),
    )
    mart = replace(DAILY, name="notes", path="notes", columns=columns, window=None, filters=())
    create_mart(own, mart)
    own.deploy(replace(CATALOGUE, marts=(mart,)))
    return own


def test_text_is_quoted_null_is_nothing_and_no_formula_is_left(texts: ApiWarehouse) -> None:
    notes = [
        'say "hi"',
        "a,b",
        "two\r\nlines",
        "",
        None,
        "=1+1",
        "+1",
        "-1",
        "@x",
        "\tx",
        "é\u2028",
    ]
    for number, note in enumerate(notes):
        texts.run(
            "insert into reporting.notes values ('alpha', '2026-09-01', %s, %s, -5.50,"
            " '2026-09-01 12:00+02', true)",
            f"p{number:02}", note,
        )  # fmt: skip
    texts.run("insert into reporting.notes values ('alpha', '2026-09-02', 'x')")
    client = texts.client(texts.key("texts", organization=["alpha"]))
    response = client.get("notes", CSV)
    rows = table(response)
    shown = ["'" + note if note and note[0] in "=+-@\t" else note or "" for note in notes]
    assert [row["note"] for row in rows] == [*shown, ""]
    assert {tuple(row.values())[3:] for row in rows[:-1]} == {
        ("-5.50", "2026-09-01T10:00:00.000000Z", "true")
    }
    assert '2026-09-01,"p03","",-5.50' in response.text
    assert '2026-09-01,"p04",,-5.50' in response.text
    assert response.text.endswith('2026-09-02,"x",,,,\r\n')
    lines = [json.loads(line) for line in client.get("notes", NDJSON).text.split("\n")[:-1]]
    assert [line["note"] for line in lines] == [*notes, None]


def test_more_than_the_most_is_refused_and_pages_reach_all(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound, most, status in (
        ("MOST_ROWS", 90, 200),
        ("MOST_ROWS", 89, 400),
        ("MOST_BYTES", 1000, 400),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(export, bound, most)
            response = client.get("daily-metrics", CSV)
            assert response.status_code == status
    problem: Any = response.json
    assert problem["errors"][0]["parameter"] == "page_size"
    assert "ask for fewer days, or for pages" in problem["detail"]
    monkeypatch.setattr(export, "MOST_ROWS", 10)
    assert len(table(client.get("daily-metrics", CSV, page_size=50))) == 50


def test_an_answer_that_did_not_change_is_not_sent_again(own: ApiWarehouse) -> None:
    client = own.client(own.key("unchanged", organization=["alpha"]))
    tags = [client.get("daily-metrics", headers).headers["ETag"] for headers in (CSV, NDJSON)]
    assert tags[0] != tags[1]
    assert not tags[0].startswith("W/")
    again = client.get("daily-metrics", {**CSV, "If-None-Match": tags[0]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get("daily-metrics", {**NDJSON, "If-None-Match": tags[0]}).status_code == 200
    own.run("update metadata.data_versions set stale_after = '2026-11-03 10:00+00'")
    late = client.get("daily-metrics", {**CSV, "If-None-Match": tags[0]})
    assert (late.status_code, late.headers["Oversight-Status"]) == (200, "late")


def test_what_others_wrote_meanwhile_is_not_half_shown(
    own: ApiWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = own.client(own.key("snapshot", organization=["alpha"]))
    before = client.get("daily-metrics", NDJSON).text
    spool = export._spool

    def meddling(*arguments: Any) -> Any:
        own.run("update reporting.daily_metrics set spend = 0; delete from metadata.data_versions")
        return spool(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(export, "_spool", meddling)
        assert client.get("daily-metrics", NDJSON).text == before
    assert client.get("daily-metrics", NDJSON).text != before


def test_a_connection_is_free_before_the_caller_reads_and_whatever_happens(
    own: ApiWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(pool_size=2, pool_wait_seconds=0.2, remember_keys_seconds=60)
    client = own.client(own.key("one connection", organization=["alpha"]), limits)
    unread = [
        client.flask.get(
            "/api/reporting/v1/daily-metrics", headers=client.headers() | CSV, buffered=False
        )
        for _ in range(2)
    ]
    assert [response.status_code for response in unread] == [200] * 2
    pool = client.flask.application.extensions["oversight"].pool
    assert pool._pool.checkedout() == 0
    for response in unread:
        response.close()
    for failure, status in ((OSError(28, "full"), 503), (RuntimeError("odd"), 500)):

        def fail(*_: Any, failure: Exception = failure) -> Any:
            raise failure

        with monkeypatch.context() as patch:
            patch.setattr(export, "_spool", fail)
            assert client.get("daily-metrics", CSV).status_code == status
        assert pool._pool.checkedout() == 0
    assert json_of(client.get("daily-metrics"))["next_page"] is None
    assert pool.read("select current_user, now() = statement_timestamp()") == (
        "oversight_api",
        True,
    )
    own.run(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'oversight-api' and datname = current_database()"
    )
    assert client.get("daily-metrics", CSV).status_code == 200


def test_slow_callers_leave_room_for_others(own: ApiWarehouse) -> None:
    client = own.client(own.key("slow", organization=["alpha"]))
    slow, other, third = (
        Client(client.flask, own.key(name, organization=["alpha"]))
        for name in ("slow caller", "another", "a third")
    )
    address = "/api/reporting/v1/daily-metrics"
    unread = []
    for caller in (slow, other):
        for _ in range(EXPORTS_AT_ONCE // 2):
            unread.append(client.flask.get(address, headers=caller.headers() | CSV, buffered=False))
        refused = caller.get("daily-metrics", CSV)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert {response.status_code for response in unread} == {200}
    assert third.get("daily-metrics", CSV).status_code == 503
    assert third.get("daily-metrics").status_code == 200
    unread[0].close()
    assert third.get("daily-metrics", CSV).status_code == 200


def test_reads_that_take_too_long_together_end(
    own: ApiWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = own.key("too slow", organization=["alpha"])
    slowly = SQL("select pg_sleep(0.1); fetch forward 1 from rows_of_answer")
    with monkeypatch.context() as patch:
        patch.setattr(export, "_FETCH", slowly)
        response = own.client(key, Limits(statement_timeout_ms=1000)).get("daily-metrics", CSV)
    assert response.status_code == 503
    problem: Any = response.json
    assert problem["type"] == "urn:oversight:problem:timeout"
    assert own.client(key).get("daily-metrics", CSV).status_code == 200
