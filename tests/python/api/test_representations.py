"""What a read shows and how: some of the columns, the next page as a link, and media types."""

from typing import Any

import pytest
from api_warehouse import ApiWarehouse, Client, json_of

DAY = {"from_": "2026-10-01", "to": "2026-10-01"}


@pytest.fixture(scope="module")
def client(read_only: ApiWarehouse) -> Client:
    """A reader of organization alpha."""
    return read_only.client(read_only.key("represented", organization=["alpha"]))


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ("clicks", ["clicks"]),
        ("clicks,day", ["day", "clicks"]),
        ("spend,partner_id,day,clicks", ["day", "partner_id", "spend", "clicks"]),
    ],
)
def test_fields_are_shown_in_the_order_of_the_mart(
    client: Client, fields: str, shown: list[str]
) -> None:
    whole = json_of(client.get("daily-metrics", None, **DAY))["data"]
    rows = json_of(client.get("daily-metrics", None, fields=fields, **DAY))["data"]
    assert [list(row) for row in rows] == [shown] * 3
    assert rows == [{name: row[name] for name in shown} for row in whole]


def test_fields_may_be_repeated_instead(client: Client) -> None:
    address = "/api/reporting/v1/daily-metrics?page_size=2&fields="
    pages = [
        client.flask.get(address + fields, headers=client.headers())
        for fields in ("clicks,day", "clicks&fields=day")
    ]
    assert pages[0].text == pages[1].text
    assert pages[0].headers["Link"] == pages[1].headers["Link"]
    twice = client.flask.get(address + "day&fields=day", headers=client.headers())
    assert twice.status_code == 400


def test_fields_without_the_key_are_paged_all_the_same(client: Client) -> None:
    whole = json_of(client.get("daily-metrics", fields="spend"))["data"]
    pages = client.pages("daily-metrics", fields="spend", page_size=7)
    assert [row for page in pages for row in page] == whole
    assert len(whole) == 90


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("day,Spend,x", "'Spend', 'x' is no column of this mart; known are day, partner_id, spend"),
        ("organization_id", "'organization_id' is no column of this mart"),
        ("day,", "'' is no column of this mart"),
        ("", "'' is no column of this mart"),
        ("day, spend", "' spend' is no column"),
        ("day,spend,day", "names a column twice"),
        ("day;drop table x", "is no column of this mart"),
    ],
)
def test_an_unknown_field_is_named(client: Client, fields: str, says: str) -> None:
    response = client.get("daily-metrics", fields=fields)
    assert response.status_code == 400
    problem: Any = response.json
    assert [error["parameter"] for error in problem["errors"]] == ["fields"]
    assert says in problem["detail"]


def test_the_link_leads_through_all_pages(client: Client) -> None:
    query = {"partner_id": "reddit_ads:1", "fields": "spend,day", "from_": "2026-10-01"}
    whole = json_of(client.get("daily-metrics", None, **query))["data"]
    response = client.get("daily-metrics", None, page_size=7, **query)
    joined = []
    while True:
        body = json_of(response)
        joined += body["data"]
        if body["next_page"] is None:
            assert "Link" not in response.headers
            break
        address, relation = response.headers["Link"].split("; ")
        assert relation == 'rel="next"'
        assert body["next_page"] in address
        assert address.startswith("</api/reporting/v1/daily-metrics?")
        response = client.flask.get(address[1:-1], headers=client.headers())
    assert joined == whole
    assert len(whole) == 30


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("", 200),
        ("*/*", 200),
        ("application/*", 200),
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", 200),
        ("application/json; charset=utf-8", 200),
        ("APPLICATION/JSON;q=0.001", 200),
        ("application/json;q=0", 406),
        ("image/png", 406),
        ("garbage", 406),
        (";;,", 406),
    ],
)
@pytest.mark.parametrize("path", ["daily-metrics", "marts", "metadata/refresh", "/openapi.json"])
def test_the_accept_header_is_heeded(client: Client, path: str, accept: str, status: int) -> None:
    response = client.get(path, {"Accept": accept})
    assert response.status_code == status
    if status == 406:
        problem: Any = response.json
        assert problem["type"] == "urn:oversight:problem:not-acceptable"
        assert "application/json" in problem["known_media_types"]


def test_headers_beyond_what_anybody_needs_are_not_parsed(client: Client) -> None:
    """werkzeug takes seconds, and the whole worker, for 60,000 spaces."""
    for accept in ("application/json," * 70, "a" + " " * 60_000 + "b"):
        for path in ("daily-metrics", "marts", "metadata/refresh"):
            assert client.get(path, {"Accept": accept}).status_code == 406
    day = "2026-10-01"
    etag = client.get("daily-metrics", from_=day, to=day).headers["ETag"]
    for padding, status in ((10, 304), (1000, 200)):
        sent = {"If-None-Match": '"x",' * padding + etag}
        for _ in range(2):
            assert client.get("daily-metrics", sent, from_=day, to=day).status_code == status
