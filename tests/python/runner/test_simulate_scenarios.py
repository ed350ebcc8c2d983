"""Each scenario of the simulated engine really contains its fault, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from simulated import controlled, counted, final, identity, rows, specification

from runner.simulation.simulate import simulate
from runner.simulation.specification import SCENARIOS


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "drift"])
def test_control_totals_equal_the_final_records(scenario: str, tmp_path: Path) -> None:
    report = simulate(specification(tmp_path, scenario=scenario))
    assert counted(report) == controlled(report)


def test_late_records_of_past_days_come_in_the_second_folder(tmp_path: Path) -> None:
    report = simulate(specification(tmp_path, scenario="late"))
    first = {identity(row) for row in rows(report, "spend", 1)}
    second = list(rows(report, "spend", 2))
    assert second
    assert not first & {identity(row) for row in second}
    assert max(row["occurred_at"] for row in second) < "2026-11-10"
    assert controlled(report, 1) == counted(report)


def test_duplicated_records_stand_in_the_same_file_and_in_another(tmp_path: Path) -> None:
    report = simulate(specification(tmp_path, scenario="duplicated"))
    again = [tuple(row.values()) for row in rows(report, "spend", 2)]
    seen = Counter(tuple(row.values()) for row in rows(report, "spend", 1))
    assert again
    assert {row for row, times in seen.items() if times == 2} == set(again)
    assert len(seen) == 750


def test_corrected_records_have_other_figures_and_keep_their_place(tmp_path: Path) -> None:
    report = simulate(specification(tmp_path, scenario="corrected"))
    before = {identity(row): row for row in rows(report, "spend", 1)}
    after = list(rows(report, "spend", 2))
    assert 10 < len(after) < 100
    for row in after:
        old = before[identity(row)]
        assert row["updated_at"] > old["updated_at"]
        assert row["spend_amount"] != old["spend_amount"]
        assert (row["occurred_at"], row["partner_id"]) == (old["occurred_at"], old["partner_id"])
    assert controlled(report, 1) != controlled(report, 2)


def test_moved_records_change_day_or_partner_and_keep_their_figures(tmp_path: Path) -> None:
    spec = specification(tmp_path, scenario="moved")
    report = simulate(spec)
    before = {identity(row): row for row in rows(report, "events", 1)}
    moves: Counter[tuple[bool, bool]] = Counter()
    for row in rows(report, "events", 2):
        old = before[identity(row)]
        days = (old["occurred_at"][:10], row["occurred_at"][:10])
        moves[days[0] != days[1], old["partner_id"] != row["partner_id"]] += 1
        assert str(spec.first_day) <= days[1] <= str(spec.last_day)
        assert (row["event_count"], row["amount"]) == (old["event_count"], old["amount"])
    assert set(moves) == {(True, False), (False, True)}


def test_withdrawn_records_vanish_and_about_half_return(tmp_path: Path) -> None:
    report = simulate(specification(tmp_path, scenario="withdrawn", share=0.2))
    withdrawn = {identity(row) for row in rows(report, "spend", 2)}
    assert {row["is_withdrawn"] for row in rows(report, "spend", 2)} == {"true"}
    reinstated = {identity(row) for row in rows(report, "spend", 3)}
    assert {row["is_withdrawn"] for row in rows(report, "spend", 3)} == {"false"}
    assert reinstated < withdrawn
    assert 0.3 < len(reinstated) / len(withdrawn) < 0.7
    assert len(final(report, "spend")) == 750 - len(withdrawn) + len(reinstated)


@pytest.mark.parametrize("drift", ["0.002", "-0.01"])
def test_drift_is_where_the_report_says_and_as_large(drift: str, tmp_path: Path) -> None:
    report = simulate(specification(tmp_path, scenario="drift", drift=Decimal(drift)))
    truth, drifted = counted(report), controlled(report)
    assert controlled(report, 1) == truth
    differing = {key for key in truth if truth[key] != drifted[key]}
    assert differing == {(d.organization_id, str(d.day), d.partner_id) for d in report.drifts}
    assert len(report.drifts) == 3
    for found in report.drifts:
        key = (found.organization_id, str(found.day), found.partner_id)
        assert [found.spend_amount, found.control_amount] == [truth[key][0], drifted[key][0]]
        size = found.control_amount / found.spend_amount - 1
        assert abs(size - Decimal(drift)) * found.spend_amount <= Decimal("0.005")
        assert truth[key][1:] == drifted[key][1:]


@pytest.mark.parametrize(("days", "seed"), [(2, 1), (3, 2), (22, 1), (22, 9), (60, 4)])
def test_outage_loses_whole_days_until_the_second_folder(
    days: int, seed: int, tmp_path: Path
) -> None:
    spec = specification(tmp_path, scenario="outage", seed=seed)
    spec = replace(spec, last_day=spec.first_day + timedelta(days=days - 1))
    report = simulate(spec)
    missing = {str(day) for day in report.outage_days}
    assert len(missing) == max(1, days // 10)
    assert days < 3 or not missing & {str(spec.first_day), str(spec.last_day)}
    everything = {str(spec.first_day + timedelta(days=day)) for day in range(days)}
    assert {row["occurred_at"][:10] for row in rows(report, "spend", 1)} == everything - missing
    assert {row["occurred_at"][:10] for row in rows(report, "spend", 2)} == missing
