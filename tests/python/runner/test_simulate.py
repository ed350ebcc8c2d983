"""The simulated engine: the same bytes from a seed, flat memory, files that agree."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from simulated import Key, counted, digest, final, rows, specification

from runner.simulation.simulate import SimulationError, simulate
from runner.simulation.specification import FORMATS


@pytest.mark.parametrize("form", FORMATS)
def test_same_seed_gives_same_bytes_whatever_the_threads(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = specification(tmp_path / "one", format=form, scenario="withdrawn", rows=200_000)
    simulate(spec)
    connect = duckdb.connect

    def with_one_thread(config: dict[str, str]) -> duckdb.DuckDBPyConnection:
        return connect(config={**config, "threads": 1})

    monkeypatch.setattr(duckdb, "connect", with_one_thread)
    simulate(replace(spec, path=tmp_path / "two"))
    simulate(replace(spec, path=tmp_path / "other", seed=2))
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    assert digest(tmp_path / "one") != digest(tmp_path / "other")


def test_bytes_are_those_of_every_machine_and_python(tmp_path: Path) -> None:
    simulate(specification(tmp_path, scenario="moved"))
    assert digest(tmp_path) == "2fd65d1834ba8219f935fc6f588f233ee61d3af1b1073726b6b3ffc34cfd020a"


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_holds_the_same_records(form: str, tmp_path: Path) -> None:
    report = simulate(specification(tmp_path, format=form))
    reader = {"csv": "read_csv", "jsonl": "read_json", "parquet": "read_parquet"}[form]
    found = (
        duckdb.connect()
        .execute(
            f"select count(*), cast(sum(spend_amount) as decimal(18, 2)), max(occurred_at)"
            f" from {reader}('{tmp_path}/oversight/spend*.{form}')"
        )
        .fetchone()
    )
    assert found is not None
    assert found[0] == report.records("spend") == 750
    expected = sum(figures[0] for figures in counted_from_csv(tmp_path / "csv").values())
    assert found[1] == expected
    if form == "parquet":
        assert found[2].tzinfo is not None


def counted_from_csv(path: Path) -> dict[Key, list[Decimal]]:
    return counted(simulate(specification(path)))


def test_rows_files_and_control_files_agree(tmp_path: Path) -> None:
    report = simulate(specification(tmp_path, rows=1501, spend_share=0.2))
    assert report.records("spend") == 300
    assert report.records("events") == 1201
    for file in report.files:
        control = json.loads((file.path.parent / f"{file.path.name}.control.json").read_text())
        with file.path.open(encoding="utf-8", newline="") as text:
            assert control["records"] == file.records == sum(1 for _ in csv.DictReader(text))
        assert (file.table == "control_totals") == ("window" in control)
    names = {file.path.name for file in report.files}
    assert {"spend_2026-10-20_2026-10-31.csv", "spend_2026-11-01_2026-11-10.csv"} <= names


def test_organizations_share_ids_but_not_figures(tmp_path: Path) -> None:
    report = simulate(specification(tmp_path, organizations=3, partners=12))
    by_organization = defaultdict(list)
    for row in rows(report, "partners"):
        by_organization[row["organization_id"]].append(row["partner_id"])
    assert len(by_organization) == 3
    assert len({tuple(partners) for partners in by_organization.values()}) == 1
    assert len(next(iter(by_organization.values()))) == 12
    spend = final(report, "spend")
    assert (
        spend["organization_001", "s1"]["spend_amount"]
        != spend["organization_003", "s1"]["spend_amount"]
    )
    campaigns = {(row["organization_id"], row["campaign_id"]) for row in rows(report, "campaigns")}
    named = {(row["organization_id"], row["campaign_id"]) for row in spend.values()}
    assert {key for key in named if key[1]} <= campaigns
    assert any(not key[1] for key in named)


def test_every_day_of_the_range_has_records_and_no_other(tmp_path: Path) -> None:
    spec = specification(tmp_path)
    report = simulate(spec)
    days = {row["occurred_at"][:10] for row in rows(report, "events")}
    assert days == {str(spec.first_day + timedelta(days=day)) for day in range(spec.days)}


def test_no_rows_still_gives_partners_and_campaigns(tmp_path: Path) -> None:
    report = simulate(specification(tmp_path, rows=0))
    assert {file.table for file in report.files} == {"partners", "campaigns"}
    assert not list(tmp_path.rglob("spend*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenario": "chaos"}, "choose one of steady"),
        ({"last_day": date(2026, 10, 19)}, "before it starts"),
        ({"rows": -1}, "rows is -1"),
        ({"scenario": "late", "last_day": date(2026, 10, 20)}, "two days"),
        ({"drift": Decimal(0)}, "drift is 0"),
        ({"organization_prefix": "a,b"}, "organization prefix"),
        ({"format": "xml"}, "choose one of csv"),
    ],
)
def test_what_has_no_meaning_is_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SimulationError, match=message):
        specification(tmp_path, **changes)


@pytest.mark.parametrize("scenario", ["late", "corrected", "outage", "drift"])
def test_a_scenario_that_changes_nothing_is_an_error_and_leaves_nothing(
    scenario: str, tmp_path: Path
) -> None:
    with pytest.raises(SimulationError, match="give more rows"):
        simulate(specification(tmp_path, scenario=scenario, rows=1, share=0.000001))
    assert not list(tmp_path.iterdir())


def test_a_folder_with_extracts_is_not_overwritten(tmp_path: Path) -> None:
    simulate(specification(tmp_path))
    before = digest(tmp_path)
    with pytest.raises(SimulationError, match="exists already"):
        simulate(specification(tmp_path, seed=2))
    with pytest.raises(SimulationError, match="exists already"):
        simulate(specification(tmp_path, scenario="moved"))
    assert digest(tmp_path) == before


def peak_megabytes(path: Path, count: int) -> float:
    """Peak resident memory of a process that simulates so many rows."""
    program = (
        "import resource, sys; from datetime import date; from pathlib import Path;"
        "from runner.simulation.simulate import Simulation, simulate;"
        "simulate(Simulation(path=Path(sys.argv[1]), first_day=date(2026, 10, 1),"
        " last_day=date(2026, 10, 31), rows=int(sys.argv[2])));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(path), str(count)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    return int(run.stdout) / 1024


def test_memory_does_not_grow_with_rows(tmp_path: Path) -> None:
    small = peak_megabytes(tmp_path / "small", 300_000)
    large = peak_megabytes(tmp_path / "large", 3_000_000)
    assert large < small * 1.5, f"{small:.0f} MB for 300,000 rows, {large:.0f} MB for 3,000,000"
