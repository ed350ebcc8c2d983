"""What a read answers: rows with all their digits, the window, freshness and parity."""

import dataclasses
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from api_warehouse import (
    CATALOGUE,
    DAILY,
    FIRST_DAY,
    PARTNERS,
    THROUGH,
    ApiWarehouse,
    Client,
    json_of,
)

from api.state import Limits
from warehouse.catalogue import Catalogue

OK = ("alpha", "a", "2026-10-10", "ok")
FAILED = ("alpha", "c", "2026-10-01", "failed")
ADD_VERDICT = (
    "insert into metadata.parity_verdicts"
    " (organization_id, mart, partner_id, period, metric, verdict) values (%s, %s, %s, %s, %s, %s)"
)


@pytest.fixture(scope="module")
def client(read_only: ApiWarehouse) -> Client:
    """A reader of organization alpha."""
    return read_only.client(read_only.key("reads", organization=["alpha"]))


def test_rows_carry_every_digit_and_no_organization(client: Client) -> None:
    response = client.get("daily-metrics", from_=FIRST_DAY, to=FIRST_DAY)
    assert '"spend":0.0000100' in response.text
    assert json_of(response)["data"] == [
        {"day": "2026-09-01", "partner_id": "google_ads:1", "spend": Decimal("2.0000100"),
         "clicks": 10**17},
        {"day": "2026-09-01", "partner_id": "reddit_ads:1", "spend": Decimal("0.0000100"),
         "clicks": 10**17},
        {"day": "2026-09-01", "partner_id": "reddit_ads:2", "spend": Decimal("1.0000100"),
         "clicks": 10**17},
    ]  # fmt: skip
    assert list(json_of(response)) == ["data", "next_page", "window", "freshness"]


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ({}, THROUGH - timedelta(days=29), THROUGH),
        ({"from_": "2026-09-10"}, date(2026, 9, 10), date(2026, 10, 9)),
        ({"to": "2026-09-10"}, date(2026, 8, 12), date(2026, 9, 10)),
        ({"from_": "2026-09-10", "to": "2026-09-11"}, date(2026, 9, 10), date(2026, 9, 11)),
        ({"from_": "9999-12-31"}, date(9999, 12, 31), date(9999, 12, 31)),
        ({"to": "0001-01-01"}, date(1, 1, 1), date(1, 1, 1)),
    ],
)
def test_the_window_is_inclusive_and_told(
    client: Client, query: dict[str, Any], first: date, last: date
) -> None:
    body = json_of(client.get("daily-metrics", **query))
    assert body["window"] == {"from": first.isoformat(), "to": last.isoformat()}
    days = [
        (FIRST_DAY + timedelta(days=number)).isoformat()
        for number in range(60)
        if first <= FIRST_DAY + timedelta(days=number) <= last
    ]
    assert sorted({row["day"] for row in body["data"]}) == days


def test_weeks_are_those_whose_monday_lies_in_the_range(client: Client) -> None:
    def mondays(**query: str) -> list[str]:
        body = json_of(
            client.get("weekly-partner-performance", None, partner_id=PARTNERS[0], **query)
        )
        return [row["week"] for row in body["data"]]

    assert mondays(week="2026-W40") == ["2026-09-28"]
    assert mondays(from_="2026-09-28", to="2026-10-05") == ["2026-09-28", "2026-10-05"]
    assert mondays(from_="2026-09-29", to="2026-10-04") == []
    assert len(mondays()) == 8


def test_a_filter_restricts_and_a_foreign_partner_gives_nothing(client: Client) -> None:
    for partner, count in ((PARTNERS[0], 30), ("reddit_ads:9", 0), ("reddit_ads", 0)):
        body = json_of(client.get("daily-metrics", partner_id=partner))
        assert len(body["data"]) == count
        assert body["next_page"] is None


def test_freshness_tells_waiting_batches_and_held_keys(own: ApiWarehouse) -> None:
    client = own.client(own.key("fresh", organization=["alpha"]))
    own.run("insert into metadata.mart_sources values ('daily_metrics', 'reddit_ads', 'report')")
    fresh = _freshness(client)
    assert (fresh["status"], fresh["late_after"]) == ("fresh", None)
    assert fresh["sla_seconds"] == 900
    assert fresh["data_through"] == "2026-10-30T12:00:00.000000Z"

    own.run(
        "insert into metadata.batches (engine, status, path) values ('reddit_ads', 'landed', 'x');"
        " insert into metadata.batch_tables (batch_id, engine, source_table, organization_id,"
        " extracted_through, landed_at) select 1, 'reddit_ads', 'report', o, now(), t::timestamptz"
        " from (values ('alpha', '2026-11-01 10:00+00'),"
        " ('beta', '2026-10-01 10:00+00')) as v(o, t)"
    )
    late = _freshness(client)
    assert (late["status"], late["late_after"]) == ("late", "2026-11-01T10:15:00.000000Z")
    own.run("update metadata.waiting_batches set landed_at = now()")
    assert _freshness(client)["status"] == "fresh"
    own.run("delete from metadata.waiting_batches where model = 'daily_metrics'")
    assert _freshness(client)["late_after"] is None

    own.run(
        "insert into metadata.held_keys"
        " values ('daily_metrics', 'alpha', '{}', '2026-11-02 10:00+00')"
    )
    held = _freshness(client)
    assert (held["status"], held["late_after"]) == ("late", "2026-11-02T10:15:00.000000Z")

    own.run("delete from metadata.held_keys")
    for organization, status in (("beta", "fresh"), ("alpha", "late")):
        own.run(
            "update metadata.data_versions set stale_after = '2026-11-03 10:00+00'"
            f" where organization_id = '{organization}'"
        )
        assert _freshness(client)["status"] == status, organization
    assert _freshness(client)["late_after"] == "2026-11-03T10:00:00.000000Z"

    own.run("delete from metadata.data_versions where organization_id = 'alpha'")
    never = _freshness(client)
    assert (never["status"], never["last_refresh_at"], never["data_through"]) == (
        "never",
        None,
        None,
    )


def test_a_window_without_data_through_ends_today(own: ApiWarehouse) -> None:
    own.run("delete from metadata.data_versions")
    client = own.client(own.key("never", organization=["alpha"]))
    (today,) = own.run("select (now() at time zone 'UTC')::date")[0]
    assert json_of(client.get("daily-metrics"))["window"]["to"] == today.isoformat()


def test_several_organizations_are_as_fresh_as_the_least(own: ApiWarehouse) -> None:
    own.run(
        "update metadata.data_versions set data_through = '2026-10-20 23:59+00',"
        " last_refresh_at = '2026-10-21 00:00+00' where organization_id = 'beta'"
    )
    for scope in (["*"], ["alpha", "beta"]):
        fresh = _freshness(own.client(own.key(f"both {len(scope)}", organization=scope)))
        assert fresh["data_through"] == "2026-10-20T23:59:00.000000Z"
        assert fresh["last_refresh_at"] == "2026-10-21T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], "unchecked"),
        ([OK], "ok"),
        ([OK, ("alpha", "b", "2026-10-10", "unchecked")], "unchecked"),
        ([OK, ("alpha", "b", "2026-10-10", "unchecked"), FAILED], "failed"),
        ([OK, ("alpha", "b", "2026-10-30", "failed")], "failed"),
        ([OK, ("alpha", "b", "2026-09-30", "failed")], "ok"),
        ([OK, ("alpha", "b", "2026-10-31", "failed")], "ok"),
        ([OK, ("beta", "a", "2026-10-10", "failed")], "ok"),
        ([("beta", "a", "2026-10-10", "ok")], "unchecked"),
    ],
)  # fmt: skip
def test_parity_is_that_of_scope_and_window(
    own: ApiWarehouse, verdicts: list[tuple[str, str, str, str]], expected: str
) -> None:
    for organization, partner, period, verdict in verdicts:
        own.run(ADD_VERDICT, organization, "daily_metrics", partner, period, "spend", verdict)
    own.run(ADD_VERDICT, "alpha", "another_mart", "a", "2026-10-10", "spend", "failed")
    client = own.client(own.key("parity", organization=["alpha"]))
    assert _freshness(client)["parity"] == expected
    views = {item["view"]: item for item in json_of(client.get("metadata/refresh"))["views"]}
    assert views["daily_metrics"]["parity"] == expected


def test_parity_of_another_partner_is_not_told(own: ApiWarehouse) -> None:
    own.run(ADD_VERDICT, "alpha", "daily_metrics", "reddit_ads:2", "2026-10-10", "spend", "failed")
    own.run(ADD_VERDICT, "alpha", "daily_metrics", "reddit_ads:1", "2026-10-10", "spend", "ok")
    one = own.client(own.key("one", organization=["alpha"], partner=["reddit_ads:1"]))
    assert _freshness(one)["parity"] == "ok"
    body = json_of(one.get("metadata/parity"))
    assert [row["partner_id"] for row in body["data"]] == ["reddit_ads:1"]


def test_parity_results_come_with_totals_and_filters(own: ApiWarehouse) -> None:
    for partner, period in (("b", "2026-10-10"), ("a", "2026-10-10"), ("a", None), (None, None)):
        for metric in ("spend", "clicks"):
            own.run(ADD_VERDICT, "alpha", "daily_metrics", partner, period, metric, "ok")
    client = own.client(own.key("results", organization=["alpha"]))
    body = json_of(client.get("metadata/parity", mart="daily_metrics", metric="spend"))
    keys = [(row["partner_id"], row["period"]) for row in body["data"]]
    assert keys == [("a", "2026-10-10"), ("a", None), ("b", "2026-10-10"), (None, None)]
    assert body["data"][0]["checked_at"].endswith("Z")
    assert body["window"] is None
    paged = client.pages("metadata/parity", page_size=1)
    assert [len(page) for page in paged] == [1] * 8
    assert [row for page in paged for row in page] == json_of(client.get("metadata/parity"))["data"]
    assert len(json_of(client.get("metadata/parity", period="2026-10-10"))["data"]) == 4


def test_a_live_view_is_as_fresh_and_as_checked_as_the_marts(own: ApiWarehouse) -> None:
    own.run(
        "update metadata.data_versions set last_refresh_at = '2026-10-21 00:00+00'"
        " where model = 'weekly_partner_performance'"
    )
    own.run(
        ADD_VERDICT, "alpha", "weekly_partner_performance", "a", "2020-01-06", "spend", "failed"
    )
    client = own.client(own.key("live", organization=["alpha"]))
    fresh = json_of(client.get("metadata/parity"))["freshness"]
    assert fresh["last_refresh_at"] == "2026-10-21T00:00:00.000000Z"
    assert (fresh["status"], fresh["parity"]) == ("fresh", "failed")
    views = {item["view"]: item for item in json_of(client.get("metadata/refresh"))["views"]}
    for name, state in fresh.items():
        assert views["parity_results"][name] == state
    assert views["daily_metrics"]["parity"] == "unchecked"


def test_runs_show_counts_and_errors_only_to_those_who_see_all(own: ApiWarehouse) -> None:
    own.run(
        "insert into metadata.refresh_log"
        " (job_name, finished_at, status, rows_affected, error_message, models)"
        " values ('refresh', now(), 'failed', 7, 'key (beta) is twice', array['daily_metrics'])"
    )
    for role, organizations, count, error in (
        ("reader", ["alpha"], None, None),
        ("admin", ["alpha"], None, None),
        ("reader", ["*"], 7, None),
        ("operator", ["*"], 7, "key (beta) is twice"),
    ):
        key = own.key(f"{role} {organizations[0].strip('*')}x", role, organization=organizations)
        body = json_of(own.client(key).get("metadata/refresh"))
        (run,) = body["runs"]
        assert (run["rows_affected"], run["error_message"]) == (count, error)
        assert (run["job_name"], run["status"]) == ("refresh", "failed")
        assert run["models"] == ["daily_metrics"]
        assert run["started_at"].endswith("Z")
        assert run["scheduled_for"] is None
        assert body["runs_limit"] == 50


def test_a_new_deployment_is_served_and_the_old_one_is_gone(own: ApiWarehouse) -> None:
    client = own.client(
        own.key("deploy", organization=["alpha"]), Limits(remember_catalogue_seconds=0)
    )
    assert client.get("daily-metrics").status_code == 200
    own.deploy(_catalogue(path="daily", filters=()))
    assert client.get("daily-metrics").status_code == 404
    assert client.get("daily", partner_id="x").status_code == 400
    assert client.get("daily").status_code == 200


def test_a_catalogue_of_another_version_leaves_the_old_one_served(own: ApiWarehouse) -> None:
    key = own.key("versions", organization=["alpha"])
    running = own.client(key, Limits(remember_catalogue_seconds=0))
    assert running.get("daily-metrics").status_code == 200
    own.run(
        "insert into metadata.catalogue (content_hash, content)"
        " select 'later', content || '{\"invented\": 1}' from metadata.catalogue"
    )
    assert running.get("daily-metrics").status_code == 200
    started = own.client(key).get("daily-metrics")
    assert started.status_code == 503
    assert started.json is not None
    assert started.json["type"] == "urn:oversight:problem:unreadable-catalogue"


def test_a_mart_that_is_not_built_yet_is_a_503_that_says_so(own: ApiWarehouse) -> None:
    client = own.client(own.key("unbuilt", organization=["alpha"]))
    own.run("drop table reporting.daily_metrics")
    response = client.get("daily-metrics")
    assert response.status_code == 503
    assert response.json is not None
    assert response.json["type"] == "urn:oversight:problem:not-built"
    assert "Retry-After" in response.headers


def test_a_defect_tells_nothing_of_the_inside(own: ApiWarehouse) -> None:
    client = own.client(own.key("defect", organization=["alpha"]))
    own.run("revoke select on reporting.daily_metrics from oversight_reader")
    response = client.get("daily-metrics")
    assert response.status_code == 500
    assert response.json is not None
    assert set(response.json) == {"type", "title", "status", "detail", "request_id"}
    assert "daily_metrics" not in response.text
    assert response.headers["X-Request-Id"] == response.json["request_id"]


def test_nothing_deployed_is_not_ready(own: ApiWarehouse) -> None:
    own.run("delete from metadata.catalogue")
    client = own.client(own.key("empty", organization=["alpha"]))
    for path in ("/health/ready", "daily-metrics", "marts"):
        response = client.get(path)
        assert response.status_code == 503
        assert response.json is not None
        assert response.json["type"] == "urn:oversight:problem:nothing-deployed"
    assert client.get("/health/live").status_code == 200


def _catalogue(**changes: Any) -> Catalogue:
    mart = dataclasses.replace(DAILY, **changes)
    return dataclasses.replace(CATALOGUE, marts=(mart,))


def _freshness(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = json_of(client.get("daily-metrics"))["freshness"]
    assert list(found) == [
        "last_refresh_at", "data_through", "sla_seconds", "late_after", "status", "parity",
        "is_stale",
    ]  # fmt: skip
    return found
