"""Each scenario of the simulated engine through to the marts: as counted, parity as promised."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from compared import ComparedWarehouse
from simulated import Key, controlled, counted, specification

from runner.landing.load import load_engine
from runner.simulation.simulate import Report, simulate
from warehouse.database import connect

Verdicts = dict[str, set[tuple[str, date, str, str]]]


def load_and_refresh(built: ComparedWarehouse, folder: Path) -> None:
    report = load_engine(built.settings, built.catalogue, "oversight", folder / "oversight")
    assert report.is_clean, report
    built.refresh_models()


def query(built: ComparedWarehouse, text: str) -> list[tuple[Any, ...]]:
    connection = connect(built.settings)
    with connection, connection.cursor() as cursor:
        cursor.execute(text)
        found = cursor.fetchall()
    connection.close()
    return found


def daily(built: ComparedWarehouse) -> dict[Key, list[Decimal]]:
    rows = query(
        built,
        "select organization_id, day::text, split_part(partner_id, ':', 2),"
        " spend, revenue, events, impressions, clicks from reporting.daily_metrics",
    )
    return {(row[0], row[1], row[2]): [Decimal(value) for value in row[3:]] for row in rows}


def verdicts(built: ComparedWarehouse) -> Verdicts:
    """Keys and metrics of daily metrics by verdict."""
    found: Verdicts = {"ok": set(), "failed": set(), "unchecked": set()}
    for verdict, *key in query(
        built,
        "select verdict, organization_id, period, split_part(partner_id, ':', 2), metric"
        " from metadata.parity_verdicts where mart = 'daily_metrics' and period is not null",
    ):
        organization, period, partner, metric = key
        found[verdict].add((organization, period, partner, metric))
    return found


def written(path: Path, scenario: str) -> Report:
    return simulate(specification(path, scenario=scenario, rows=400, share=0.1))


@pytest.mark.parametrize("scenario", ["duplicated", "corrected", "moved", "withdrawn"])
def test_changes_that_the_engine_knows_of_agree_after_every_folder(
    scenario: str, built: ComparedWarehouse, tmp_path: Path
) -> None:
    built.renew()
    report = written(tmp_path, scenario)
    for folder in report.folders:
        load_and_refresh(built, folder)
        assert not verdicts(built)["failed"]
    found = verdicts(built)
    assert found["ok"]
    assert not found["unchecked"]
    assert daily(built) == counted(report)


@pytest.mark.parametrize("scenario", ["late", "outage"])
def test_what_is_missing_fails_parity_until_it_comes(
    scenario: str, built: ComparedWarehouse, tmp_path: Path
) -> None:
    built.renew()
    report = written(tmp_path, scenario)
    load_and_refresh(built, report.folders[0])
    failed = verdicts(built)["failed"]
    assert {key for key in counted(report) if daily(built).get(key) != counted(report)[key]} == {
        (organization, str(day), partner) for organization, day, partner, _ in failed
    }
    assert failed
    if scenario == "outage":
        assert {day for _, day, _, _ in failed} == set(report.outage_days)
    load_and_refresh(built, report.folders[1])
    assert not verdicts(built)["failed"]
    assert daily(built) == counted(report) == controlled(report)


def test_drift_fails_at_the_keys_that_the_report_names_and_nowhere_else(
    built: ComparedWarehouse, tmp_path: Path
) -> None:
    built.renew()
    report = written(tmp_path, "drift")
    load_and_refresh(built, report.folders[0])
    assert not verdicts(built)["failed"]
    load_and_refresh(built, report.folders[1])
    assert verdicts(built)["failed"] == {
        (drift.organization_id, drift.day, drift.partner_id, "spend") for drift in report.drifts
    }
    assert daily(built) == counted(report)
