"""`oversight simulate` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from runner.cli import main
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
