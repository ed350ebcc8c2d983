"""Pages: complete, without repeats, stable while rows change, and of their own query only."""

import base64
import dataclasses
from typing import Any

import pytest
from api_warehouse import CATALOGUE, DAILY, PARITY, ApiWarehouse, Client, column, json_of

from api.app import create_app
from api.state import Limits


@pytest.fixture(scope="module")
def client(read_only: ApiWarehouse) -> Client:
    """A reader of organization alpha."""
    return read_only.client(read_only.key("pages", organization=["alpha"]))


@pytest.mark.parametrize("page_size", [1, 2, 7, 89, 90, 91])
def test_pages_joined_are_the_whole_answer(client: Client, page_size: int) -> None:
    whole = json_of(client.get("daily-metrics"))
    assert len(whole["data"]) == 90
    assert whole["next_page"] is None
    pages = client.pages("daily-metrics", page_size=page_size)
    assert [row for page in pages for row in page] == whole["data"]
    assert len(pages) == -(-90 // page_size)


def test_pages_of_several_organizations_do_not_mix_equal_ids(read_only: ApiWarehouse) -> None:
    for scope in (["*"], ["alpha", "beta"]):
        client = read_only.client(read_only.key(f"several {len(scope)}", organization=scope))
        rows = [row for page in client.pages("daily-metrics", page_size=13) for row in page]
        assert rows == json_of(client.get("daily-metrics"))["data"]
        assert len(rows) == 180
        assert rows[:90] != rows[90:]
        keys = [(row["day"], row["partner_id"]) for row in rows]
        assert keys[:90] == keys[90:]


def test_rows_that_come_and_go_between_pages_disturb_no_other(own: ApiWarehouse) -> None:
    client = own.client(own.key("moving", organization=["alpha"]))
    before = json_of(client.get("daily-metrics"))["data"]
    first = json_of(client.get("daily-metrics", page_size=20))
    own.run(
        "insert into reporting.daily_metrics values"
        " ('alpha', '2026-10-01', 'aaa', 1, 1), ('alpha', '2026-10-30', 'zzz', 1, 1);"
        " delete from reporting.daily_metrics where day in ('2026-10-02', '2026-10-29');"
        # The last row served is gone too: paging goes on from its place.
        f" delete from reporting.daily_metrics where day = '{first['data'][-1]['day']}'"
    )
    own.run("update metadata.data_versions set data_through = '2026-11-15'")
    rest = []
    page = first
    while page["next_page"]:
        page = json_of(client.get("daily-metrics", page_size=20, page=page["next_page"]))
        assert page["window"] == first["window"]
        rest.extend(page["data"])
    gone = {"2026-10-02", "2026-10-29", first["data"][-1]["day"]}
    expected = [row for row in before[20:] if row["day"] not in gone]
    assert [row for row in rest if row["partner_id"] != "zzz"] == expected
    assert sum(row["partner_id"] == "zzz" for row in rest) == 1


def test_the_page_size_may_change_between_pages(client: Client) -> None:
    whole = json_of(client.get("daily-metrics"))["data"]
    first = json_of(client.get("daily-metrics", page_size=10))
    second = json_of(client.get("daily-metrics", page_size=30, page=first["next_page"]))
    third = json_of(client.get("daily-metrics", page=second["next_page"]))
    assert first["data"] + second["data"] + third["data"] == whole


def test_ties_in_every_part_but_the_last_and_null_parts_are_paged(own: ApiWarehouse) -> None:
    rows = [
        (partner, period, metric)
        for partner in ("a", "b", None)
        for period in ("2026-10-09", "2026-10-10", None)
        for metric in ("clicks", "impressions", "spend")
    ]
    for partner, period, metric in reversed(rows):
        own.run(
            "insert into metadata.parity_verdicts"
            " (organization_id, mart, partner_id, period, metric, verdict)"
            " values ('alpha', 'daily_metrics', %s, %s, %s, 'ok')",
            partner, period, metric,
        )  # fmt: skip
    client = own.client(own.key("ties", organization=["alpha"]))
    for page_size in (1, 2, 4, 26, 27):
        pages = client.pages(PARITY.path, page_size=page_size)
        joined = [row for page in pages for row in page]
        assert [(row["partner_id"], row["period"], row["metric"]) for row in joined] == rows


def test_a_grain_not_declared_as_required_pages_the_same(own: ApiWarehouse) -> None:
    loose = tuple(column(item.name, item.data_type, is_required=False) for item in DAILY.columns)
    own.deploy(dataclasses.replace(CATALOGUE, marts=(dataclasses.replace(DAILY, columns=loose),)))
    client = own.client(own.key("loose", organization=["alpha"]))
    rows = [row for page in client.pages("daily-metrics", page_size=11) for row in page]
    assert rows == json_of(client.get("daily-metrics"))["data"]


def test_a_token_of_anything_else_is_refused(own: ApiWarehouse) -> None:
    client = own.client(own.key("tokens", organization=["alpha"]))
    twin = own.client(own.key("same scope", organization=["alpha"]))
    other = own.client(own.key("other scope", organization=["beta"]))
    token = json_of(client.get("daily-metrics", page_size=10))["next_page"]
    body, signature = token.rsplit(".", 1)
    foreign = dataclasses.replace(own.settings, signing_key="another-signing-key-of-32-characters")
    forger = Client(create_app(foreign).test_client(), client.key)
    forged = json_of(forger.get("daily-metrics", page_size=10))["next_page"]
    payload = base64.urlsafe_b64encode(b'["x",null,null,["alpha","2026-10-01","a"]]').decode()

    assert client.get("daily-metrics", page=token).status_code == 200
    assert twin.get("daily-metrics", page=token).status_code == 200
    for asking, query, says in (
        (client, {"page": ""}, "is no page token"),
        (client, {"page": "2"}, "is no page token"),
        (client, {"page": "a.b.c"}, "is no page token"),
        (client, {"page": token[:-1]}, "is no page token"),
        (client, {"page": flipped(token)}, "is no page token"),
        (client, {"page": body}, "is no page token"),
        (client, {"page": f"{payload.rstrip('=')}.{signature}"}, "is no page token"),
        (client, {"page": forged}, "is no page token"),
        (client, {"page": token, "partner_id": "reddit_ads:1"}, "another query"),
        (client, {"page": token, "from_": "2026-10-01"}, "another query"),
        (client, {"page": token, "from_": "2026-10-01", "to": "2026-10-30"}, "another query"),
        (other, {"page": token}, "another query"),
    ):
        assert_refused(asking, "daily-metrics", query, says)
    assert_refused(client, "weekly-partner-performance", {"page": token}, "another query")


def test_a_token_outlives_a_deployment_unless_the_grain_changed(own: ApiWarehouse) -> None:
    client = own.client(
        own.key("deployed", organization=["alpha"]), Limits(remember_catalogue_seconds=0)
    )
    token = json_of(client.get("daily-metrics", page_size=10))["next_page"]
    own.deploy(dataclasses.replace(CATALOGUE, reporting_currency="EUR"))
    assert client.get("daily-metrics", page=token).status_code == 200
    turned = dataclasses.replace(DAILY, grain=("organization_id", "partner_id", "day"))
    own.deploy(dataclasses.replace(CATALOGUE, marts=(turned,)))
    assert_refused(client, "daily-metrics", {"page": token}, "another query")


def flipped(token: str) -> str:
    """The token with one character in the middle of its body changed."""
    place = token.rindex(".") // 2
    return token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]


def assert_refused(client: Client, path: str, query: dict[str, Any], says: str) -> None:
    """The answer is 400 and says so of `page`."""
    response = client.get(path, **query)
    assert response.status_code == 400, query
    assert response.json is not None
    assert response.json["errors"][0]["parameter"] == "page"
    assert says in response.json["detail"]
