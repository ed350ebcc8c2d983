"""Nobody sees a row outside his scope: through HTTP, and on a connection as the reader role."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import psycopg2.errors
import pytest
from api_warehouse import (
    CATALOGUE,
    DAILY,
    DAYS,
    ORGANIZATIONS,
    PARTNERS,
    ApiWarehouse,
    column,
    create_mart,
    json_of,
    make_warehouse,
)
from psycopg2.extensions import connection as Connection

from clusters import Cluster
from warehouse import database

ALL = DAYS * len(PARTNERS)
_PLAIN = str.maketrans(dict.fromkeys("{}[]'\",:*_"))
FULL = {"from_": "2026-09-01", "to": "2026-10-30"}


@pytest.fixture(scope="module")
def any_shared(server: Cluster) -> Iterator[ApiWarehouse]:
    """A warehouse on PostgreSQL 18, then on 15 where it is installed; only keys are added."""
    settings = server.migrated_database()
    yield make_warehouse(server, settings)
    server.drop_database(Cluster.name_of(settings))


@pytest.fixture
def reader(any_shared: ApiWarehouse) -> Iterator[Connection]:
    """A connection of the API's own login, acting as the reader role."""
    settings = dataclasses.replace(
        any_shared.settings,
        database_url=any_shared.settings.api_database_url,
        direct_database_url=None,
    )
    connection = database.connect(settings, role="oversight_reader", autocommit=True)
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("scope", "rows"),
    [
        ({"organization": ["alpha"]}, ALL),
        ({"organization": ["beta"]}, ALL),
        ({"organization": ["alpha", "beta"]}, 2 * ALL),
        ({"organization": ["*"]}, 2 * ALL),
        ({"organization": ["gamma"]}, 0),
        ({"organization": ["alph"]}, 0),
        ({"organization": ["*"], "partner": [PARTNERS[0]]}, 2 * DAYS),
        ({"organization": ["alpha"], "partner": [PARTNERS[0], PARTNERS[2], "x"]}, 2 * DAYS),
        ({"organization": ["alpha"], "partner": ["reddit_ads"]}, 0),
    ],
)
def test_a_caller_sees_the_rows_of_its_scope(
    any_shared: ApiWarehouse, scope: dict[str, list[str]], rows: int
) -> None:
    client = any_shared.client(
        any_shared.key(f"scope {scope}".translate(_PLAIN), "reader", **scope)
    )
    found = [row for page in client.pages("daily-metrics", page_size=200, **FULL) for row in page]
    assert len(found) == rows
    if "beta" not in scope["organization"] and "*" not in scope["organization"]:
        # Beta's figures are twice alpha's on the same days and partners.
        assert sum(int(row["spend"]) for row in found) == _spend(any_shared, "alpha", found)


def test_a_partner_out_of_scope_gives_no_rows_and_no_hint(any_shared: ApiWarehouse) -> None:
    client = any_shared.client(
        any_shared.key("narrow", organization=["alpha"], partner=[PARTNERS[0]])
    )
    hidden = client.get("daily-metrics", partner_id=PARTNERS[1])
    missing = client.get("daily-metrics", partner_id="reddit_ads:404")
    assert json_of(hidden)["data"] == []
    assert hidden.text == missing.text
    assert len(json_of(client.get("daily-metrics", partner_id=PARTNERS[0]))["data"]) == 30


def test_a_scope_that_a_principal_lacks_is_nothing(own: ApiWarehouse) -> None:
    regional = dataclasses.replace(
        DAILY,
        name="regional",
        path="regional",
        columns=(*DAILY.columns, column("region", "text")),
        scope={**DAILY.scope, "region": "region"},
    )
    create_mart(own, regional)
    own.run("insert into reporting.regional select *, 'emea' from reporting.daily_metrics")
    own.deploy(dataclasses.replace(CATALOGUE, marts=(regional,)))
    for name, regions, rows in (
        ("none", [], 0),
        ("apac", ["apac"], 0),
        ("emea", ["emea"], ALL),
        ("all", ["*"], ALL),
    ):
        scope = {"region": regions} if regions else {}
        client = own.client(own.key(name, "reader", organization=["alpha"], **scope))
        assert len(json_of(client.get("regional", None, **FULL))["data"]) == rows, name


def test_the_api_login_itself_may_read_no_mart(any_shared: ApiWarehouse) -> None:
    settings = dataclasses.replace(
        any_shared.settings,
        database_url=any_shared.settings.api_database_url,
        direct_database_url=None,
    )
    connection = database.connect(settings, autocommit=True)
    try:
        with (
            connection.cursor() as cursor,
            pytest.raises(psycopg2.errors.InsufficientPrivilege),
        ):
            cursor.execute("select 1 from reporting.daily_metrics")
    finally:
        connection.close()


def test_a_plain_login_that_may_become_both_roles_serves_too(own: ApiWarehouse) -> None:
    """Where one login does everything, as on a hosted server."""
    name = database.describe(str(own.settings.database_url)).split("dbname=")[1].split()[0]
    login = f"plain_{name}"
    own.run(f"create role {login} login noinherit in role oversight_api, oversight_reader")
    try:
        url = str(own.settings.database_url).replace("//postgres@", f"//{login}@")
        plain = ApiWarehouse(settings=dataclasses.replace(own.settings, api_database_url=url))
        client = plain.client(own.key("plain", organization=["alpha"]))
        assert len(json_of(client.get("daily-metrics", None, **FULL))["data"]) == ALL
        assert client.get("/health/ready").status_code == 200
    finally:
        own.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = %s", login)
        own.run(f"drop role {login}")


@pytest.mark.parametrize(
    ("organization", "partner", "rows"),
    [
        ("{alpha}", "{*}", ALL),
        ("{*}", "{*}", 2 * ALL),
        ("{alpha,beta}", f"{{{PARTNERS[0]}}}", 2 * DAYS),
        (None, None, 0),
        ("{alpha}", None, 0),
        (None, "{*}", 0),
        ("", "", 0),
        ("{alpha}", "", 0),
        ("{}", "{*}", 0),
        ("alpha", "{*}", 0),
        ("alpha,beta", "{*}", 0),
        ("*", "{*}", 0),
        ("{alpha", "{*}", 0),
        ("alpha}", "{*}", 0),
        ("{alpha,}", "{*}", 0),
        ("{,alpha}", "{*}", 0),
        ("{{alpha}}", "{*}", 0),
        ('{"alpha"}', "{*}", 0),
        ("{'alpha'}", "{*}", 0),
        ('"{alpha}"', "{*}", 0),
        ("{alpha}{beta}", "{*}", 0),
        ("{al\\pha}", "{*}", 0),
        ("{alpha}\n", "{*}", 0),
        ("{ALPHA}", "{*}", 0),
        ("{ alpha}", "{*}", 0),
        ("{NULL}", "{*}", 0),
    ],
)
def test_the_reader_role_sees_what_the_settings_say_and_nothing_when_they_say_nothing(
    reader: Connection, organization: str | None, partner: str | None, rows: int
) -> None:
    with reader.cursor() as cursor:
        for name, value in (("organization", organization), ("partner", partner)):
            if value is not None:
                cursor.execute(
                    "select set_config(%s, %s, false)", (f"oversight.scope_{name}", value)
                )
        for table, expected in (
            ("reporting.daily_metrics", rows),
            ("metadata.parity_verdicts", 0),
        ):
            cursor.execute(f"select count(*) from {table}")
            assert cursor.fetchone() == (expected,)
        cursor.execute("select distinct organization_id from metadata.mart_freshness")
        seen = {row[0] for row in cursor.fetchall()}
        if rows == 0 and partner == "{*}":
            assert seen == set()


def test_the_reader_role_changes_nothing_and_sees_no_keys(reader: Connection) -> None:
    for statement in (
        "insert into reporting.daily_metrics values ('alpha', '2026-09-01', 'x', 1, 1)",
        "update reporting.daily_metrics set spend = 0",
        "delete from reporting.daily_metrics",
        "truncate reporting.daily_metrics",
        "select * from metadata.principals",
        "select * from metadata.catalogue",
        "create table reporting.mine (i int)",
        "set role oversight_owner",
    ):
        with reader.cursor() as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(statement)


def test_both_organizations_have_the_same_ids(any_shared: ApiWarehouse) -> None:
    """What the other tests rest on."""
    for organization in ORGANIZATIONS:
        (row,) = any_shared.run(
            "select count(*), count(distinct partner_id) from reporting.daily_metrics"
            " where organization_id = %s",
            organization,
        )
        assert row == (ALL, len(PARTNERS))


def _spend(warehouse: ApiWarehouse, organization: str, found: list[dict[str, Any]]) -> int:
    ((total,),) = warehouse.run(
        "select coalesce(sum(trunc(spend)), 0)::bigint from reporting.daily_metrics"
        " where organization_id = %s and partner_id = any(%s)",
        organization,
        sorted({row["partner_id"] for row in found}),
    )
    return int(total)
