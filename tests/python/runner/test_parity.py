"""Parity: a wrong control total fails the build and is named; hold withholds."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from built import INCREMENTAL, BuiltWarehouse
from projects import copy_project, edit

from clusters import PROJECT_DIR, Cluster

REDDIT = PROJECT_DIR.parent / "shared" / "data" / "ad_platforms" / "reddit_ads"
REPORT = "reddit_ads_account_report_data.csv"
PARTNER = "reddit_ads:1234"

Rows = list[dict[str, str]]

pytestmark = pytest.mark.skipif(not REDDIT.is_dir(), reason="the real extracts are not there")


@pytest.fixture(scope="module")
def holding(
    server18: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BuiltWarehouse]:
    """The same with `parity: hold` on the daily mart."""
    project = copy_project(tmp_path_factory.mktemp("hold"))
    edit(project, "models/reporting/_reporting__models.yml", "parity: flag", "parity: hold")
    made = BuiltWarehouse(server18, "parity_hold", project)
    yield made
    made.close()


def mutated(folder: Path, change: Callable[[Rows], Rows]) -> Path:
    """A copy of Reddit's extracts whose account report went through `change`, by day."""
    target = folder / "reddit_ads"
    shutil.copytree(REDDIT, target)
    path = target / REPORT
    path.chmod(0o644)
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = sorted(reader, key=lambda row: row["date"])
        names = reader.fieldnames or []
    changed = change([dict(row) for row in rows])
    assert changed != rows, "the fault did not land"
    target.chmod(0o755)
    path.unlink()
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(changed)
    return target


def at(place: str, rows: Rows) -> int:
    return {"first": 0, "middle": len(rows) // 2, "last": len(rows) - 1}[place]


def spend_off(share: str, place: str = "middle") -> Callable[[Rows], Rows]:
    def change(rows: Rows) -> Rows:
        row = rows[at(place, rows)]
        row["spend"] = str(int(int(row["spend"]) * (1 + Decimal(share))))
        return rows

    return change


def one_click_more(rows: Rows) -> Rows:
    row = rows[at("middle", rows)]
    row["clicks"] = str(int(row["clicks"]) + 1)
    return rows


def missing_day(place: str) -> Callable[[Rows], Rows]:
    def change(rows: Rows) -> Rows:
        del rows[at(place, rows)]
        return rows

    return change


def extra_day(place: str) -> Callable[[Rows], Rows]:
    """A day that the campaigns don't have: before the first, between, after the last."""

    def change(rows: Rows) -> Rows:
        days = {row["date"] for row in rows}
        free = {"first": "2022-10-08", "last": "2022-12-21"}
        between = (f"2022-11-{day:02}" for day in range(1, 31))
        day = free.get(place) or next(day for day in between if day not in days)
        return [*rows, {**rows[0], "date": day, "spend": "1000000", "clicks": "1"}]

    return change


def failing(warehouse: BuiltWarehouse) -> list[tuple[Any, ...]]:
    """Failed verdicts of the daily mart, without the total."""
    return warehouse.rows(
        "select period::text, metric from reporting.parity_results where mart = 'daily_metrics'"
        " and verdict = 'failed' and period is not null order by 1, 2"
    )


def build(warehouse: BuiltWarehouse) -> tuple[bool, str]:
    result = warehouse.dbt_run("build", "--select", INCREMENTAL)
    return result.success, result.output


def test_the_real_account_report_agrees_on_all_56_days(built: BuiltWarehouse) -> None:
    built.renew()
    built.load("reddit_ads", REDDIT)
    success, output = build(built)
    assert success, output
    assert built.rows(
        "select metric, verdict, count(*) from reporting.parity_results"
        " where mart = 'daily_metrics' and period is not null and metric <> '*' group by 1, 2"
        " order by 1"
    ) == [("clicks", "ok", 56), ("impressions", "ok", 56), ("spend", "ok", 56)]


def test_spend_half_a_permille_off_passes(built: BuiltWarehouse, tmp_path: Path) -> None:
    built.renew()
    built.load("reddit_ads", mutated(tmp_path, spend_off("0.0005")))
    success, output = build(built)
    assert success, output
    assert failing(built) == []


@pytest.mark.parametrize(
    ("change", "metrics"),
    [
        (spend_off("0.002"), {"spend"}),
        (one_click_more, {"clicks"}),
        *(
            (missing_day(place), {"spend", "impressions", "clicks"})
            for place in ("first", "middle", "last")
        ),
        *(
            (extra_day(place), {"spend", "impressions", "clicks"})
            for place in ("first", "middle", "last")
        ),
    ],
    ids=[
        "0.2 % of spend",
        "one click",
        "no first day",
        "no middle day",
        "no last day",
        "extra first day",
        "extra middle day",
        "extra last day",
    ],
)
def test_a_wrong_account_report_fails_the_build_and_is_named(
    built: BuiltWarehouse,
    tmp_path: Path,
    change: Callable[[Rows], Rows],
    metrics: set[str],
) -> None:
    built.renew()
    built.load("reddit_ads", mutated(tmp_path, change))
    success, output = build(built)
    assert not success
    failed = failing(built)
    assert {metric for _, metric in failed} == metrics
    assert len({day for day, _ in failed}) == 1
    day = failed[0][0]
    for metric in metrics:
        assert f"parity: daily_metrics of default, {PARTNER}, {day}, {metric}" in output


def test_a_later_right_report_ends_the_failure_and_history_tells(
    built: BuiltWarehouse, tmp_path: Path
) -> None:
    built.renew()
    built.load("reddit_ads", mutated(tmp_path, spend_off("0.002")))
    built.refresh()
    assert failing(built)
    built.load("reddit_ads", REDDIT)
    built.refresh()
    assert failing(built) == []
    assert built.rows(
        "select old_verdict, new_verdict from metadata.parity_history"
        " where mart = 'daily_metrics' and period is not null order by parity_history_id"
    ) == [(None, "failed"), ("failed", "ok")]


def native(
    folder: Path,
    name: str,
    organization: str,
    amount: str,
    *,
    control: str,
    day: str = "2026-11-01",
    since: str | None = None,
) -> Path:
    """One native spend record of a day, and the engine's total for the days since `since`."""
    engine = folder / name / "oversight"
    engine.mkdir(parents=True)
    (engine / f"spend_{name}.csv").write_text(
        "organization_id,spend_id,occurred_at,partner_id,campaign_id,spend_amount,clicks,"
        "impressions,currency,updated_at\n"
        f"{organization},s1,{day}T10:00:00Z,p1,,{amount},1,1,USD,2026-11-02T00:00:{name[-1:]}0Z\n"
    )
    path = engine / f"control_totals_{name}.csv"
    path.write_text(
        "organization_id,day,partner_id,spend_amount,revenue_amount,events,impressions,clicks\n"
        f"{organization},{day},p1,{control},0,0,1,1\n"
    )
    window = {"from": since or day, "to": day}
    totals = {
        "as_of": f"2026-11-02T00:00:{name[-1:]}0Z",
        "records": 1,
        "window": window,
    }
    path.with_name(f"{path.name}.control.json").write_text(json.dumps(totals))
    return engine


def published(warehouse: BuiltWarehouse) -> list[tuple[Any, ...]]:
    return warehouse.rows(
        "select organization_id, spend from reporting.daily_metrics order by organization_id"
    )


def held(warehouse: BuiltWarehouse) -> list[tuple[Any, ...]]:
    return warehouse.rows("select organization_id, key ->> 'day' from metadata.held_keys")


def test_hold_serves_the_last_good_rows_and_other_organizations_go_on(
    holding: BuiltWarehouse, tmp_path: Path
) -> None:
    holding.renew()
    for organization, name in (("acme", "a1"), ("beta", "b1")):
        holding.load("oversight", native(tmp_path, name, organization, "10.00", control="10.00"))
    holding.refresh()
    assert published(holding) == [("acme", Decimal("10.00")), ("beta", Decimal("10.00"))]

    holding.load("oversight", native(tmp_path, "a2", "acme", "20.00", control="25.00"))
    holding.load("oversight", native(tmp_path, "b2", "beta", "20.00", control="20.00"))
    holding.refresh()
    assert published(holding) == [("acme", Decimal("10.00")), ("beta", Decimal("20.00"))]
    assert held(holding) == [("acme", "2026-11-01")]
    assert holding.rows(
        "select organization_id, held_since is not null from metadata.mart_freshness"
        " where model = 'daily_metrics' order by 1"
    ) == [("acme", True), ("beta", False)]
    assert ("2026-11-01", "spend") in failing(holding)

    holding.load("oversight", native(tmp_path, "a3", "acme", "20.00", control="20.00"))
    holding.refresh()
    assert published(holding) == [("acme", Decimal("20.00")), ("beta", Decimal("20.00"))]
    assert held(holding) == []
    assert failing(holding) == []


def test_hold_survives_a_full_refresh(holding: BuiltWarehouse, tmp_path: Path) -> None:
    holding.renew()
    holding.load("oversight", native(tmp_path, "a1", "acme", "10.00", control="10.00"))
    holding.refresh()
    holding.load("oversight", native(tmp_path, "a2", "acme", "20.00", control="25.00"))
    holding.refresh("--full-refresh")
    assert published(holding) == [("acme", Decimal("10.00"))]
    assert held(holding) == [("acme", "2026-11-01")]


def test_keys_that_only_the_put_back_rows_have_go_when_parity_is_well(
    holding: BuiltWarehouse, tmp_path: Path
) -> None:
    """The record moves to another day, whose total is wrong; the move is first seen in full."""
    moved = {"day": "2026-11-02", "since": "2026-11-01"}
    days = "select day::text from reporting.daily_metrics"
    holding.renew()
    holding.load("oversight", native(tmp_path, "a1", "acme", "10.00", control="10.00"))
    holding.refresh()
    wrong = native(tmp_path, "a2", "acme", "10.00", control="99.00", **moved)
    holding.load("oversight", wrong, allow_void=True)
    holding.refresh("--full-refresh")
    assert holding.rows(days) == [("2026-11-01",)]
    assert sorted(held(holding)) == [("acme", "2026-11-01"), ("acme", "2026-11-02")]
    holding.load("oversight", native(tmp_path, "a3", "acme", "10.00", control="10.00", **moved))
    holding.refresh()
    assert holding.rows(days) == [("2026-11-02",)]
    assert held(holding) == []


def test_a_partner_that_is_gone_fails_nothing_after_a_full_refresh(
    built: BuiltWarehouse, tmp_path: Path
) -> None:
    built.renew()
    built.load("oversight", native(tmp_path, "a1", "acme", "10.00", control="12.00"))
    built.refresh()
    assert failing(built)
    built.rows("alter table staging.oversight__spend disable trigger user")
    built.rows("alter table staging.oversight__control_totals disable trigger user")
    built.rows("delete from staging.oversight__spend")
    built.rows("delete from staging.oversight__control_totals")
    built.refresh("--full-refresh")
    assert built.rows("select count(*) from reporting.parity_results") == [(0,)]


def test_what_was_never_good_is_not_published_under_hold(
    holding: BuiltWarehouse, tmp_path: Path
) -> None:
    holding.renew()
    holding.load("oversight", native(tmp_path, "a1", "acme", "10.00", control="12.00"))
    holding.refresh()
    assert published(holding) == []
    assert held(holding) == [("acme", "2026-11-01")]
