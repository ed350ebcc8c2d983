"""Every wrong request is a problem document that names what is wrong."""

from typing import Any

import pytest
from api_warehouse import ApiWarehouse, Client, json_of

from api.problems import CONTENT_TYPE


@pytest.fixture(scope="module")
def client(read_only: ApiWarehouse) -> Client:
    """A reader of one organization."""
    return read_only.client(read_only.key("bad-input", organization=["alpha"]))


@pytest.mark.parametrize(
    ("path", "query", "parameter", "says"),
    [
        ("daily-metrics", "from=2026-07-01&to=2026-10-01", "from", "has 93 days; at most 92"),
        ("daily-metrics", "from=2026-10-02&to=2026-10-01", "from", "is after to"),
        ("daily-metrics", "from=2026-02-30", "from", "does not exist"),
        ("daily-metrics", "from=20261001", "from", "write YYYY-MM-DD"),
        ("daily-metrics", "to=2026-W40-1", "to", "write YYYY-MM-DD"),
        ("daily-metrics", "to=%D9%A2026-01-01", "to", "write YYYY-MM-DD"),
        ("daily-metrics", "from=", "from", "write YYYY-MM-DD"),
        ("daily-metrics", "from=2026-10-01&from=2026-10-02", "from", "more than once"),
        ("daily-metrics", "week=2026-W40", "week", "is unknown; known are fields, from, page"),
        ("daily-metrics", "form=2026-10-01", "form", "is unknown; known are fields, from, page"),
        ("daily-metrics", "organization_id=beta", "organization_id", "is unknown"),
        ("daily-metrics", "partner_id=", "partner_id", "is empty"),
        ("daily-metrics", "partner_id=a%00b", "partner_id", "no usable text"),
        ("daily-metrics", "partner_id=%EF%BF%BD", "partner_id", "no usable text"),
        ("daily-metrics", "partner_id=" + "x" * 501, "partner_id", "over 500 characters"),
        ("daily-metrics", "page_size=0", "page_size", "greater than or equal to 1"),
        ("daily-metrics", "page_size=5001", "page_size", "less than or equal to 5000"),
        ("daily-metrics", "page_size=1e3", "page_size", "not a whole number"),
        ("daily-metrics", "page_size=" + "9" * 30, "page_size", "not a whole number"),
        ("weekly-partner-performance", "week=2025-W53", "week", "2025 has 52 ISO weeks"),
        ("weekly-partner-performance", "week=2026-W54", "week", "2026 has 53 ISO weeks"),
        ("weekly-partner-performance", "week=2026-W00", "week", "does not exist"),
        ("weekly-partner-performance", "week=0000-W01", "week", "does not exist"),
        ("weekly-partner-performance", "week=2026-40", "week", "write YYYY-Www"),
        ("weekly-partner-performance", "week=2026-W40&to=2026-10-01", "week", "give it or from"),
        ("metadata/parity", "period=2026-13-01", "period", "does not exist"),
        ("metadata/parity", "verdict=OK", "verdict", "'OK' is none of ok, failed, unchecked"),
        ("metadata/parity", "from=2026-10-01", "from", "is unknown"),
        ("metadata/refresh", "limit=3", "limit", "is unknown; known are none"),
        ("marts", "name=x", "name", "is unknown; known are none"),
    ],
)
def test_a_wrong_parameter_is_named(
    client: Client, path: str, query: str, parameter: str, says: str
) -> None:
    response = client.flask.get(f"/api/reporting/v1/{path}?{query}", headers=client.headers())
    assert response.status_code == 400
    problem = problem_of(response)
    assert [error["parameter"] for error in problem["errors"]] == [parameter]
    assert says in problem["errors"][0]["message"]
    assert says in problem["detail"]


def test_all_wrong_parameters_are_named_at_once(client: Client) -> None:
    response = client.get("daily-metrics", from_="x", to="y", page_size="z", other="1")
    named = {error["parameter"] for error in problem_of(response)["errors"]}
    assert named == {"from", "to", "page_size", "other"}


def test_the_longest_window_and_the_53rd_week_are_served(client: Client) -> None:
    longest = json_of(client.get("daily-metrics", from_="2026-07-01", to="2026-09-30"))
    assert longest["window"] == {"from": "2026-07-01", "to": "2026-09-30"}
    last_week = json_of(client.get("weekly-partner-performance", week="2026-W53"))
    assert last_week["window"] == {"from": "2026-12-28", "to": "2027-01-03"}
    assert last_week["data"] == []


@pytest.mark.parametrize(
    "value",
    ["'; drop table reporting.daily_metrics --", "%s", "%(x)s", "{x}", '"', "\\", "a\u2028b"],
)
def test_a_value_is_a_value(client: Client, value: str) -> None:
    assert json_of(client.get("daily-metrics", partner_id=value))["data"] == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize(
    "path",
    ["/api/reporting/v1/daily-metrics", "/api/reporting/v1/metadata/refresh", "/health/live"],
)
def test_only_reading_is_allowed(client: Client, method: str, path: str) -> None:
    response = client.flask.open(path, method=method, headers=client.headers())
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD"
    problem_of(response)


def test_head_answers_like_get_without_a_body(client: Client) -> None:
    response = client.flask.head("/api/reporting/v1/daily-metrics", headers=client.headers())
    assert (response.status_code, response.data) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/nope", "/api", "/api/reporting/v1/", "/api/reporting/v1/nope", "/api/reporting/v1/marts/",
     "/api/reporting/v1/daily_metrics", "/api//reporting/v1/marts", "/health/nope"],
)  # fmt: skip
def test_what_is_not_served_is_a_problem(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    problem_of(response)


def test_a_sent_request_id_comes_back_unless_it_is_malformed(client: Client) -> None:
    response = client.get("nope", {"X-Request-Id": "trace-1.a_B"})
    assert response.headers["X-Request-Id"] == "trace-1.a_B" == problem_of(response)["request_id"]
    for malformed in ("*/ drop", "a" * 65, "-a", ""):
        made = client.get("marts", {"X-Request-Id": malformed}).headers["X-Request-Id"]
        assert made != malformed
        assert len(made) == 32


def problem_of(response: Any) -> dict[str, Any]:
    """The problem document of a response, checked for what RFC 9457 asks of each."""
    assert response.content_type == CONTENT_TYPE
    problem: dict[str, Any] = response.json
    assert problem["status"] == response.status_code
    assert problem["type"].startswith("urn:oversight:problem:")
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == response.headers["X-Request-Id"]
    return problem
