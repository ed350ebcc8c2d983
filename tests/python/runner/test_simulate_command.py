"""`oversight simulate` on the command line."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner
from terminals import on_pipe, on_terminal

from runner.cli import main
from runner.simulation.simulate import Simulation, simulate
from runner.simulation.specification import SCENARIOS

RANGE = ("--from", "2026-11-01", "--to", "2026-11-07")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["simulate", *arguments])
    return result.exit_code, result.output


def test_help_names_every_scenario_and_has_examples() -> None:
    status, output = run("--help")
    assert status == 0
    assert all(f"  {scenario} " in output for scenario in SCENARIOS)
    assert "--rows 10_000_000" in output


def test_it_writes_and_says_how_to_load(tmp_path: Path) -> None:
    status, output = run("--path", str(tmp_path), *RANGE, "--rows", "1_000")
    assert status == 0
    assert "oversight/spend_2026-11-01_2026-11-07.csv: 500 records" in output
    assert output.endswith(f"load with:\n  oversight load --path {tmp_path}\n")


def test_drift_is_printed_with_its_keys(tmp_path: Path) -> None:
    status, output = run(
        "--path",
        str(tmp_path),
        *RANGE,
        "--scenario",
        "drift",
        "--drift",
        "0.2%",
        "--drift-keys",
        "2",
    )
    assert status == 0
    assert output.count("drift at organization_") == 2
    assert f"oversight load --path {tmp_path}/1\n  oversight load --path {tmp_path}/2\n" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--scenario", "chaos"),
            "error: cannot simulate: scenario is chaos: choose one of steady",
        ),
        (("--drift", "much"), "'much' is no share"),
        (("--to", "2026-10-31"), "error: cannot simulate: the range ends (2026-10-31) before"),
        (("--rows", "-1"), "error: cannot simulate: rows is -1"),
    ],
)
def test_mistakes_are_said(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    status, output = run("--path", str(tmp_path), *RANGE, *arguments)
    assert status != 0
    assert message in output
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, output = run("--path", str(tmp_path / "file"), *RANGE)
    assert status == 1
    assert "error: cannot write to" in output


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_progress_ends_at_the_rows_that_it_announced(scenario: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    simulate(
        Simulation(
            path=tmp_path,
            first_day=date(2026, 10, 20),
            last_day=date(2026, 11, 7),
            rows=2_000,
            scenario=scenario,
        ),
        lambda done, total: seen.append((done, total)),
    )
    assert seen[0][0] == 0
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_a_terminal_gets_a_bar_and_standard_output_the_files(tmp_path: Path) -> None:
    done = on_terminal("simulate", "--path", str(tmp_path), *RANGE, "--rows", "1_000")
    assert done.status == 0
    assert "━" in done.terminal
    assert "100 %" in done.terminal
    assert "spend_2026-11-01_2026-11-07.csv: 500 records" in done.output
    assert "records" not in done.terminal


def test_json_holds_the_files_and_the_keys_of_a_drift(tmp_path: Path) -> None:
    done = on_pipe(
        *("simulate", "--path", str(tmp_path), *RANGE, "--json"),
        *("--scenario", "drift", "--drift-keys", "2"),
    )
    assert done.returncode == 0
    assert "\x1b" not in done.stderr
    answer = json.loads(done.stdout)
    assert answer["folders"] == [str(tmp_path / "1"), str(tmp_path / "2")]
    assert {file["path"] for file in answer["files"]} == {
        str(path) for path in tmp_path.rglob("*.csv")
    }
    assert len(answer["drifts"]) == 2
    assert answer["drifts"][0]["spend_amount"] != answer["drifts"][0]["control_amount"]


def test_with_json_a_mistake_is_an_object(tmp_path: Path) -> None:
    status, output = run("--path", str(tmp_path), *RANGE, "--rows", "-1", "--json")
    assert status == 1
    assert json.loads(output)["error"].startswith("cannot simulate: rows is -1")


def test_an_engine_that_serves_has_no_object() -> None:
    status, output = run(*RANGE, "--serve", "--json")
    assert status == 2
    assert "leave out --json" in json.loads(output)["error"]
