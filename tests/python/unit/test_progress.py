"""Progress: a bar on a terminal, few plain lines elsewhere, and nothing on standard output."""

from __future__ import annotations

import sys

import pytest
from terminals import run_on_terminal

from runner import progress
from runner.progress import Progress, Steps

WORK = """
from runner.progress import Progress
with Progress("backfill shop", unit="weeks") as progress:
    for week in range(53):
        progress.show("", week, 52)
    print("result")
"""


def test_a_terminal_shows_a_bar_with_counts_and_the_result_goes_to_output() -> None:
    done = run_on_terminal([sys.executable, "-c", WORK])
    assert done.status == 0
    assert done.output == "result\n"
    assert "━" in done.terminal
    assert "52 of 52 weeks, 100 %" in done.terminal
    assert "result" not in done.terminal


def test_a_log_gets_the_first_line_and_then_one_each_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with Progress("load") as bars:
        for step in range(41):
            now += 0.25
            bars.show(f"file_{step % 2}", 2.5 * step)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.splitlines() == ["load: file_0 0 %", "load: file_0 50 %", "load: file_0 100 %"]
    assert seen.err.replace("\n", "").isprintable()
    assert progress.PLAIN_SECONDS >= 5


@pytest.mark.parametrize(
    ("done", "total", "line"),
    [
        (0, 0, "work: 0 of 0 weeks, 100 %"),
        (-1, 52, "work: 0 of 52 weeks, 0 %"),
        (60, 52, "work: 52 of 52 weeks, 100 %"),
        (1_500, 3_000, "work: 1,500 of 3,000 weeks, 50 %"),
    ],
)
def test_edges_of_an_amount(
    done: float, total: float, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("work", unit="weeks") as bars:
        bars.show("", done, total)
    assert capsys.readouterr().err == f"{line}\n"


def test_brackets_in_a_name_are_no_markup() -> None:
    done = run_on_terminal([sys.executable, "-c", WORK.replace('""', '"spend[1].csv"')])
    assert "spend[1].csv" in done.terminal


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert progress.is_terminal(sys.stderr)
    monkeypatch.setenv("TERM", "dumb")
    assert not progress.is_terminal(sys.stderr)


def test_steps_in_a_log_are_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    steps = Steps()
    with steps.step("building") as on_step:
        on_step(1, 2)
    with pytest.raises(ValueError, match="no"), steps.step("testing"):
        raise ValueError("no")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("building ....")
    assert lines[0].endswith(" s")
    assert lines[1].endswith(" failed")
    assert len(lines) == 2
