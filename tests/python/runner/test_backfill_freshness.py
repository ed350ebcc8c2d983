"""Old weeks that are landed again never make a mart look fresher than it is."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest
import yaml
from api_warehouse import ApiWarehouse, json_of, served_by
from compared import ComparedWarehouse
from histories import Version

from clusters import PROJECT_DIR
from runner.landing.load import load_engine

NOW = datetime.now(timezone.utc).replace(microsecond=0)
QUIET_SINCE = NOW - timedelta(days=10)


def spend(number: int, day: str, moment: datetime) -> Version:
    """A record with its time of extraction."""
    return Version(
        engine="oversight",
        table="spend",
        values=(
            ("organization_id", "acme"),
            ("spend_id", f"s{number}"),
            ("occurred_at", f"{day}T12:00:00Z"),
            ("partner_id", "p1"),
            ("spend_amount", "10.00"),
            ("currency", "USD"),
            ("updated_at", f"{moment:%Y-%m-%dT%H:%M:%SZ}"),
        ),
    )


def land(built: ComparedWarehouse, record: Version, *, is_backfill: bool) -> int:
    """One record as a batch; the folder's writer stamps records, so the stamp is put back."""
    folder = built.folder([(0, record)])
    path = folder / "oversight" / "spend.csv"
    stamp = dict(record.values)["updated_at"]
    path.write_text(path.read_text().replace("2027-02-01T00:00:00Z", stamp))
    week = (date(2026, 1, 5), date(2026, 1, 11)) if is_backfill else None
    report = load_engine(
        built.settings, built.catalogue, "oversight", folder / "oversight", window=week
    )
    assert report.is_clean, report
    assert report.batch_id is not None
    return report.batch_id


@pytest.fixture
def quiet(built: ComparedWarehouse, server18: Any) -> ApiWarehouse:
    """An engine that sent something ten days ago and nothing since."""
    built.renew()
    batch_id = land(built, spend(1, "2026-10-05", QUIET_SINCE), is_backfill=False)
    built.rows(
        "update metadata.batch_tables set landed_at = %s where batch_id = %s returning 1",
        (QUIET_SINCE, batch_id),
    )
    built.refresh()
    warehouse = ApiWarehouse(settings=served_by(server18, built.settings))
    warehouse.deploy(built.catalogue)
    return warehouse


def freshness(warehouse: ApiWarehouse, name: str) -> dict[str, Any]:
    """What the API says of the daily mart; each question with a key of its own."""
    client = warehouse.client(warehouse.key(name, organization=["acme"]))
    found: dict[str, Any] = json_of(
        client.get("daily-metrics", None, from_="2026-01-01", to="2026-01-31")
    )["freshness"]
    del found["last_refresh_at"], found["parity"]
    return found


def test_a_quiet_engine_stays_as_late_as_before_its_backfill(
    built: ComparedWarehouse, quiet: ApiWarehouse
) -> None:
    before = freshness(quiet, "before")
    assert before["status"] == "late"
    assert before["data_through"] == f"{QUIET_SINCE:%Y-%m-%dT%H:%M:%S}.000000Z"

    land(built, spend(2, "2026-01-05", NOW), is_backfill=True)
    built.refresh()
    assert built.value("select count(*) from curated.fact_spend") == 2
    assert freshness(quiet, "after") == before
    built.refresh("--full-refresh")
    assert freshness(quiet, "rebuilt") == before

    land(built, spend(3, "2026-01-06", NOW), is_backfill=False)
    built.refresh()
    alive = freshness(quiet, "alive")
    assert alive["status"] == "fresh"
    assert alive["data_through"] == f"{NOW:%Y-%m-%dT%H:%M:%S}.000000Z"


def test_a_backfill_that_a_mart_has_not_taken_makes_it_late_past_its_sla(
    built: ComparedWarehouse, quiet: ApiWarehouse
) -> None:
    """What landed and is not shown is late, however old its week is."""
    land(built, spend(2, "2026-10-06", NOW), is_backfill=False)
    built.refresh()
    assert freshness(quiet, "taken")["status"] == "fresh"
    batch_id = land(built, spend(3, "2026-01-05", NOW), is_backfill=True)
    built.rows(
        "update metadata.waiting_batches set landed_at = landed_at - interval '1 hour' "
        "where batch_id = %s returning 1",
        (batch_id,),
    )
    assert freshness(quiet, "waiting")["status"] == "late"
    built.refresh()
    assert freshness(quiet, "refreshed")["status"] == "fresh"


def test_an_engine_of_which_only_old_weeks_landed_has_no_data_through(
    built: ComparedWarehouse, server18: Any
) -> None:
    built.renew()
    land(built, spend(1, "2026-01-05", NOW), is_backfill=True)
    built.refresh()
    warehouse = ApiWarehouse(settings=served_by(server18, built.settings))
    warehouse.deploy(built.catalogue)
    assert freshness(warehouse, "only") == {
        "data_through": None,
        "is_stale": False,
        "late_after": None,
        "sla_seconds": 900,
        "status": "fresh",
    }


def test_source_freshness_does_not_see_old_weeks(built: ComparedWarehouse) -> None:
    """dbt's own check of an engine asks the same ledger."""
    queries = {
        source["name"]: source["config"]["loaded_at_query"]
        for path in (PROJECT_DIR / "models/staging").glob("*/_*__sources.yml")
        for source in yaml.safe_load(path.read_text())["sources"]
    }
    assert sorted(queries) == list(built.catalogue.engines)
    built.renew()
    land(built, spend(1, "2026-01-05", NOW), is_backfill=True)
    for engine, query in queries.items():
        built.rows(
            "update metadata.batch_tables set engine = %s, landed_at = '2020-01-01' returning 1",
            (engine,),
        )
        assert built.value(query) > NOW, f"{engine}: a backfill says nothing of its life"
