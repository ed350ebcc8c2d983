"""Statements are prepared once per connection, whatever happens to it, and answer as plain ones."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations

import pytest
from api_warehouse import DAILY, ApiWarehouse, Client, create_mart, json_of
from daemons import wait_until

from api.database.pool import Pool
from api.database.prepared import MOST_STATEMENTS
from api.state import Limits
from warehouse import database

ONE_CONNECTION = Limits(pool_size=1, remember_keys_seconds=60, remember_catalogue_seconds=60)
COLUMNS = ("day", "partner_id", "spend", "clicks")
_WAITING = (
    "select count(*) from pg_stat_activity"
    " where datname = current_database() and wait_event_type = 'Lock'"
)
_NAMES = "select coalesce(array_agg(name), '{}') from pg_prepared_statements"


def pool_of(client: Client) -> Pool:
    pool: Pool = client.flask.application.extensions["oversight"].pool
    return pool


def names_of(client: Client) -> set[str]:
    """What the pool's one connection has prepared."""
    row = pool_of(client).read(_NAMES)
    assert row is not None
    return set(row[0])


def days(client: Client, first: str, **query: str) -> list[str]:
    body = json_of(client.get("daily-metrics", None, from_=first, to="2026-10-30", **query))
    return sorted({row["day"] for row in body["data"]})


def test_reads_that_differ_in_values_share_a_statement(read_only: ApiWarehouse) -> None:
    client = read_only.client(read_only.key("shared", organization=["alpha"]), ONE_CONNECTION)
    for first in ("2026-10-28", "2026-10-30"):
        assert days(client, first)[0] == first
        assert len(names_of(client)) == 1
    assert days(client, "2026-10-30", partner_id="reddit_ads:1") == ["2026-10-30"]
    assert len(names_of(client)) == 2


def test_keys_of_other_scopes_share_statements_and_no_rows(read_only: ApiWarehouse) -> None:
    first = read_only.client(read_only.key("of alpha", organization=["alpha"]), ONE_CONNECTION)
    other = Client(first.flask, read_only.key("of beta", organization=["beta"]))
    nothing = Client(first.flask, read_only.key("of nobody", organization=["nobody"]))
    query = {"from_": "2026-10-30", "to": "2026-10-30"}
    found = [
        sum(
            int(row["spend"]) for row in json_of(client.get("daily-metrics", None, **query))["data"]
        )
        for client in (first, other, nothing, first)
    ]
    assert found == [59 + 60 + 61, 2 * (59 + 60 + 61), 0, 59 + 60 + 61]
    assert len(names_of(first)) == 1


def test_many_shapes_stay_within_the_bound(read_only: ApiWarehouse) -> None:
    one = read_only.client(read_only.key("shapes", organization=["alpha"]), ONE_CONNECTION)
    two = Client(one.flask, read_only.key("more shapes", organization=["alpha", "beta"]))
    shapes = [
        (client, ",".join(names), partner)
        for client in (one, two)
        for number in range(1, 5)
        for names in combinations(COLUMNS, number)
        for partner in ({}, {"partner_id": "reddit_ads:1"})
    ]
    assert len(shapes) > MOST_STATEMENTS
    most = 0
    for client, names, partner in shapes * 2:
        query = {"from_": "2026-10-01", "fields": names, "page_size": "1", **partner}
        (row,) = json_of(client.get("daily-metrics", None, **query))["data"]
        assert set(row) == set(names.split(","))
        most = max(most, len(names_of(client)))
    assert most == MOST_STATEMENTS


def test_a_message_that_failed_on_its_way_is_no_obstacle(own: ApiWarehouse) -> None:
    client = own.client(own.key("failed", organization=["alpha"]), ONE_CONNECTION)
    own.run("alter table reporting.daily_metrics rename to away")
    for _ in range(2):
        assert client.get("daily-metrics").status_code == 503
    own.run("alter table reporting.away rename to daily_metrics")
    assert days(client, "2026-10-30") == ["2026-10-30"]


def test_a_statement_whose_first_use_took_too_long_is_prepared_again(own: ApiWarehouse) -> None:
    client = own.client(
        own.key("slow", organization=["alpha"]), replace(ONE_CONNECTION, statement_timeout_ms=300)
    )
    own.run("alter table reporting.daily_metrics rename to kept")
    for delay, status in ((1, 503), (0, 200)):
        own.run(
            "create or replace view reporting.daily_metrics with (security_invoker = true) as"
            f" select kept.* from reporting.kept, pg_sleep({delay}) as slept;"
            " grant select on reporting.daily_metrics to oversight_reader"
        )
        assert client.get("daily-metrics").status_code == status
        assert len(names_of(client)) == 1
    assert client.get("daily-metrics", partner_id="reddit_ads:1").status_code == 200
    assert len(names_of(client)) == 2


def test_a_mart_that_was_swapped_is_read_anew(own: ApiWarehouse) -> None:
    client = own.client(own.key("swapped", organization=["alpha"]), ONE_CONNECTION)
    for _ in range(8):
        assert days(client, "2026-10-30") == ["2026-10-30"]
    own.run("alter table reporting.daily_metrics rename to old")
    create_mart(own, DAILY)
    own.run(
        "insert into reporting.daily_metrics values ('alpha', '2026-10-29', 'p', 1, 1),"
        " ('beta', '2026-10-30', 'p', 1, 1); drop table reporting.old;"
        " notify oversight_data, 'daily_metrics'"
    )
    assert days(client, "2026-10-29") == ["2026-10-29"]


def exported_days(client: Client, first: str) -> list[str]:
    csv = client.get(
        "daily-metrics", {"Accept": "text/csv"}, fields="day", from_=first, to="2026-10-30"
    )
    return sorted(set(csv.text.split()) - {"day"})


@pytest.mark.parametrize("read_days", [days, exported_days])
def test_a_read_that_waits_for_a_swap_sees_what_the_swap_brought(
    own: ApiWarehouse, read_days: Callable[[Client, str], list[str]]
) -> None:
    """What has its snapshot before it waits would see no row of the new table."""
    client = own.client(own.key("waiting", organization=["alpha"]))
    assert read_days(client, "2026-10-30") == ["2026-10-30"]
    swap = database.connect(own.settings)
    try:
        with swap.cursor() as cursor:
            cursor.execute("lock table reporting.daily_metrics in access exclusive mode")
            with ThreadPoolExecutor(1) as threads:
                read = threads.submit(read_days, client, "2026-10-29")
                wait_until(lambda: own.run(_WAITING) == [(1,)], 30)
                cursor.execute(
                    "create table reporting.new (like reporting.daily_metrics including all);"
                    " insert into reporting.new select * from reporting.daily_metrics;"
                    " grant select on reporting.new to oversight_reader;"
                    " drop table reporting.daily_metrics;"
                    " alter table reporting.new rename to daily_metrics"
                )
                swap.commit()
                assert read.result() == ["2026-10-29", "2026-10-30"]
    finally:
        swap.close()


def test_connections_that_keep_nothing_are_served_all_the_same(own: ApiWarehouse) -> None:
    """A pooler lends another session for each transaction."""
    client = own.client(own.key("pooled", organization=["alpha"]), ONE_CONNECTION)
    assert days(client, "2026-10-28")[0] == "2026-10-28"
    pool_of(client).read("deallocate all; select 1")
    assert days(client, "2026-10-29")[0] == "2026-10-29"
    assert days(client, "2026-10-30", partner_id="reddit_ads:1") == ["2026-10-30"]
    assert names_of(client) == set()
