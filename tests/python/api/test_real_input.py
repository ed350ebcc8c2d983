"""Real extracts of five ad engines, landed, refreshed and read through the API, to the last digit.

The extracts lie beside the checkout; without them these tests are skipped.
"""

import csv
import dataclasses
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg2.errors
import pytest
from api_warehouse import ApiWarehouse, Client, json_of, served_by

from clusters import PROJECT_DIR, Cluster
from runner.landing.load import engine_folders, load_engine
from runner.runs.refresh import refresh
from warehouse import database
from warehouse.catalogue import Catalogue, deploy, deployed
from warehouse.raw_tables import ensure_raw_tables

DATA = PROJECT_DIR.parent / "shared" / "data" / "ad_platforms"
MEASURES = ("spend", "impressions", "clicks")
WINDOW_DAYS = 92

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real extracts are not there")


@pytest.fixture(scope="module")
def real(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiWarehouse]:
    """The project as it is, with the extracts of all five engines in the organization `default`."""
    empty = server18.migrated_database()
    home = tmp_path_factory.mktemp("real")
    settings = dataclasses.replace(served_by(server18, empty), home=home)
    warehouse = ApiWarehouse(settings=settings)
    catalogue = deploy(settings)
    with_admin(warehouse, catalogue)
    load(warehouse, catalogue)
    refresh(settings)
    yield warehouse
    server18.drop_database(Cluster.name_of(empty))


@pytest.fixture(scope="module")
def client(real: ApiWarehouse) -> Client:
    """A reader of the organization that all real extracts are of."""
    return real.client(real.key("real", organization=["default"]))


def test_each_engine_equals_its_control_totals(client: Client) -> None:
    with (DATA / "CONTROL_TOTALS.csv").open() as lines:
        controls = list(csv.DictReader(lines))
    assert len(controls) == 5
    for control in controls:
        rows = rows_between(
            client,
            "daily-metrics",
            date.fromisoformat(control["first_day"]),
            date.fromisoformat(control["last_day"]),
        )
        own = [row for row in rows if row["partner_id"].startswith(f"{control['engine']}:")]
        assert min(row["day"] for row in own) == control["first_day"]
        assert max(row["day"] for row in own) == control["last_day"]
        totals = {name: sum(row[name] for row in own) for name in MEASURES}
        expected = {
            "spend": Decimal(control["spend_usd"]),
            "impressions": int(control["impressions"]),
            "clicks": int(control["clicks"]),
        }
        assert totals == expected, control["engine"]


def test_weeks_add_up_to_days(client: Client) -> None:
    monday, sunday = date(2022, 10, 3), date(2022, 12, 25)
    days = rows_between(client, "daily-metrics", monday, sunday)
    weeks = rows_between(client, "weekly-partner-performance", monday, sunday)
    for name in ("spend", "revenue", "margin"):
        assert sum(row[name] for row in weeks) == sum(row[name] for row in days) != 0


def test_reddit_is_checked_against_its_own_account_report(client: Client) -> None:
    window = {"from_": "2022-10-09", "to": "2022-12-20"}
    body = json_of(client.get("daily-metrics", None, **window))
    assert body["freshness"]["status"] == "fresh"
    results = [
        row
        for page in client.pages("metadata/parity", mart="daily_metrics")
        for row in page
        if (row["partner_id"] or "").startswith("reddit_ads:")
    ]
    compared = [row for row in results if row["metric"] in MEASURES and row["period"]]
    assert {row["verdict"] for row in compared} == {"ok"}
    assert len({row["period"] for row in compared}) == 56


def test_loading_the_same_folder_again_changes_nothing(real: ApiWarehouse, client: Client) -> None:
    before = contents(real)
    connection = database.connect(real.settings, autocommit=True)
    try:
        catalogue = deployed(connection)
    finally:
        connection.close()
    load(real, catalogue)
    refresh(real.settings)
    assert contents(real) == before
    # Reading the same bytes again may add versions that are not the newest, but moves no figure.
    load(real, catalogue, again=True)
    waiting = json_of(client.get("daily-metrics"))["freshness"]["late_after"]
    refresh(real.settings)
    # What waits must be taken within minutes; then it is the engines that must not fall silent.
    assert json_of(client.get("daily-metrics"))["freshness"]["late_after"] > waiting
    assert served(contents(real)) == served(before)


def test_readers_notice_nothing_of_a_full_refresh(real: ApiWarehouse, client: Client) -> None:
    window = {"from_": "2022-10-09", "to": "2022-12-20"}
    expected = json_of(client.get("daily-metrics", None, **window))["data"]
    with ThreadPoolExecutor(1) as threads:
        rebuild = threads.submit(refresh, real.settings, full=True)
        reads = 0
        while not rebuild.done():
            assert json_of(client.get("daily-metrics", None, **window))["data"] == expected
            reads += 1
            time.sleep(0.01)
        assert rebuild.result().status == "success"
    assert reads > 50


def test_the_policies_of_the_project_keep_scopes_apart(real: ApiWarehouse) -> None:
    window = {"from_": "2022-10-09", "to": "2022-12-20"}
    own = real.client(real.key("own", organization=["default"]))
    everyone = json_of(own.get("daily-metrics", None, **window))["data"]
    partner = everyone[0]["partner_id"]
    narrow = real.client(real.key("narrow", organization=["default"], partner=[partner]))
    other = real.client(real.key("other", organization=["elsewhere"]))
    for path in ("daily-metrics", "weekly-partner-performance"):
        seen = json_of(narrow.get(path, None, **window))["data"]
        assert {row["partner_id"] for row in seen} == {partner}
        assert json_of(other.get(path, None, **window))["data"] == []
    verdicts = json_of(narrow.get("metadata/parity", page_size=5000))["data"]
    assert {row["partner_id"] for row in verdicts} <= {partner}
    assert json_of(other.get("metadata/parity"))["data"] == []
    assert json_of(other.get("daily-metrics"))["freshness"]["status"] == "never"


@pytest.mark.parametrize(
    ("setting", "is_seen"),
    [
        ("{default}", True),
        ("{*}", True),
        (None, False),
        ("", False),
        ("default", False),
        ("a,b", False),
        ("{elsewhere}", False),
        ('{"default"}', False),
        ("{default", False),
        ("{{default}}", False),
    ],
)
def test_the_reader_role_sees_the_rows_of_its_settings_only(
    real: ApiWarehouse, setting: str | None, is_seen: bool
) -> None:
    login = dataclasses.replace(real.settings, database_url=real.settings.api_database_url)
    connection = database.connect(login, role="oversight_reader", autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute("set oversight.scope_partner = '{*}'")
            if setting is not None:
                cursor.execute(
                    "select set_config('oversight.scope_organization', %s, false)", (setting,)
                )
            for mart in ("daily_metrics", "weekly_partner_performance", "parity_results"):
                cursor.execute(f"select count(*) > 0 from reporting.{mart}")
                assert cursor.fetchone() == (is_seen,), mart
            for hidden in ("curated.fact_spend", "staging.reddit_ads__campaign_report"):
                with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                    cursor.execute(f"select count(*) from {hidden}")
    finally:
        connection.close()


def with_admin(warehouse: ApiWarehouse, catalogue: Catalogue) -> None:
    """Make the raw tables of the declared sources."""
    connection = database.connect(warehouse.settings)
    try:
        ensure_raw_tables(connection, catalogue.sources)
        connection.commit()
    finally:
        connection.close()


def load(warehouse: ApiWarehouse, catalogue: Catalogue, *, again: bool = False) -> None:
    """`oversight load --path DATA`."""
    for engine, folder in engine_folders(DATA, catalogue, None).items():
        load_engine(warehouse.settings, catalogue, engine, folder, again=again)


def rows_between(client: Client, path: str, first: date, last: date) -> list[dict[str, Any]]:
    """All rows of a range, window by window and page by page."""
    rows: list[dict[str, Any]] = []
    while first <= last:
        end = min(last, first + timedelta(days=WINDOW_DAYS - 1))
        pages = client.pages(path, from_=first.isoformat(), to=end.isoformat(), page_size=50)
        rows.extend(row for page in pages for row in page)
        first = end + timedelta(days=1)
    return rows


def contents(warehouse: ApiWarehouse) -> dict[str, Any]:
    """Every raw row, fact row and mart row, as hashes that do not depend on order."""
    tables = warehouse.run(
        "select schemaname || '.' || tablename from pg_tables"
        " where schemaname in ('staging', 'curated', 'reporting') order by 1"
    )
    found = {}
    for (table,) in tables:
        ((content,),) = warehouse.run(
            f"select coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from {table} as t"
        )
        found[table] = content
    assert found["reporting.daily_metrics"]
    return found


def served(found: dict[str, Any]) -> dict[str, Any]:
    """The contents of facts, dimensions and marts."""
    return {name: content for name, content in found.items() if not name.startswith("staging.")}


def test_the_data_folder_is_the_one_beside_the_checkout() -> None:
    """The skip above must not hide a moved folder: its control totals name all five engines."""
    assert Path(DATA, "CONTROL_TOTALS.csv").read_text().count("\n") == 6
