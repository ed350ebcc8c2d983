"""A backfill whose process dies or freezes at any point: nothing twice, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from backfill_process import AT, POINTS, WEEKS
from backfills import FakeEngine, days_of, deploy, execute, ledger, open_run, steps
from compared import ComparedWarehouse, Contents

from clusters import PROJECT_DIR
from runner.backfill.backfill import run_backfill
from runner.backfill.ledger import progress
from runner.backfill.requests import request_backfill, resume
from runner.runs.ending import abandon_dead
from runner.runs.opening import LIVES
from warehouse.backfills import BackfillError
from warehouse.database import admin_dsn, connect

TESTS = PROJECT_DIR / "tests" / "python"
# What a process that died at each point leaves of its week, and how many pulls the next one makes.
LEFT = {
    "asked": ("running", None, 1, 2),
    "landing": ("running", None, 1, 2),
    "landed": ("running", None, 2, 1),
    "written": ("running", 2, 2, 1),
    "refreshed": ("running", 2, 2, 1),
    "done": ("done", 2, 2, 1),
    "all done": ("done", 2, 3, 0),
}


class Process:
    """A backfill's process; the test answers what it asks for."""

    def __init__(self, built: ComparedWarehouse, backfill_id: int, point: str = "-") -> None:
        self._built = built
        self.said: list[str] = []
        environment = {
            **os.environ,
            "OVERSIGHT_DATABASE_URL": admin_dsn(built.settings),
            "OVERSIGHT_HOME": str(built.settings.home),
            "PYTHONPATH": f"{PROJECT_DIR}{os.pathsep}{TESTS}",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(TESTS / "backfill_process.py"), str(backfill_id), point],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=PROJECT_DIR,
        )

    def lines(self) -> Iterator[str]:
        """What it says until it ends; refreshes that it asks for are done."""
        assert self.process.stdout
        assert self.process.stdin
        for line in self.process.stdout:
            word = line.strip()
            self.said.append(word)
            if word == "refresh":
                self._built.refresh()
                self.process.stdin.write("\n")
                self.process.stdin.flush()
            yield word

    def until(self, said: str) -> None:
        """Read until it says that."""
        for word in self.lines():
            if word == said:
                return
        raise AssertionError(f"it ended without {said!r}: {self.said}")

    def end(self) -> int:
        """Its exit status, and what it said, in `said`."""
        for _ in self.lines():
            pass
        assert self.process.stdin
        self.process.stdin.close()
        status = self.process.wait(timeout=60)
        assert self.process.stdout
        self.process.stdout.close()
        return status


@pytest.fixture
def backfill_id(built: ComparedWarehouse) -> int:
    """A backfill of three weeks that nobody has begun."""
    return fresh(built)


def fresh(built: ComparedWarehouse) -> int:
    built.renew()
    deploy(built.settings, built.catalogue)
    return request_backfill(built.settings, "oversight", WEEKS[0], WEEKS[-1]).backfill_id


@pytest.fixture(scope="module")
def clean(built: ComparedWarehouse) -> tuple[list[Any], Contents]:
    """What a run leaves that nothing happened to."""
    backfill_id = fresh(built)
    process = Process(built, backfill_id)
    assert process.end() == 0
    assert process.said[-1] == "pulled 3"
    return outcome(built, backfill_id)


def outcome(built: ComparedWarehouse, backfill_id: int) -> tuple[list[Any], Contents]:
    """The ledger without attempts and times, and every row of facts and marts."""
    contents = {name: rows for name, rows in built.contents().items() if name != "data_through"}
    return ledger(built.settings, backfill_id), contents


def batches(built: ComparedWarehouse) -> int:
    return int(built.value("select count(*) from metadata.batches"))


def week_at(built: ComparedWarehouse) -> tuple[Any, ...]:
    (row,) = execute(
        built.settings,
        "select status, batch_id from metadata.backfill_weeks where week = %s",
        AT,
    )
    return row


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_it_ends_as_a_clean_run(
    built: ComparedWarehouse,
    clean: tuple[list[Any], Contents],
    backfill_id: int,
    point: str,
) -> None:
    killed = Process(built, backfill_id, point)
    assert killed.end() == -signal.SIGKILL
    assert killed.said[-1] == f"reached {point}", "the fault landed"
    status, batch_id, landed, pulls = LEFT[point]
    assert week_at(built) == (status, batch_id)
    assert batches(built) == landed
    assert progress(built.settings, backfill_id).status == "running"

    second = Process(built, backfill_id)
    assert second.end() == 0
    assert second.said[-1] == f"pulled {pulls}"
    assert outcome(built, backfill_id) == clean
    assert batches(built) == len(WEEKS), "nothing landed twice"
    assert progress(built.settings, backfill_id).status == "done"


def test_a_batch_that_another_backfill_left_is_not_taken_for_a_week_that_failed(
    built: ComparedWarehouse,
) -> None:
    fresh(built)
    first = request_backfill(built.settings, "oversight", WEEKS[0], WEEKS[0]).backfill_id
    broken = FakeEngine()
    broken.broken = {WEEKS[0]: 3}
    with pytest.raises(BackfillError, match="weeks have failed"):
        run_backfill(built.settings, first, open_run(built.settings), steps=steps(built, broken))
    second = request_backfill(built.settings, "oversight", AT, AT).backfill_id
    killed = Process(built, second, "landed")
    assert killed.end() == -signal.SIGKILL
    assert killed.said[-1] == "reached landed", "the fault landed"
    assert batches(built) == 1

    resume(built.settings, first)
    for each, pulls in ((first, 1), (second, 0)):
        process = Process(built, each)
        assert process.end() == 0
        assert process.said[-1] == f"pulled {pulls}"
    assert [
        day for (day,) in built.rows("select day from reporting.daily_metrics order by day")
    ] == (days_of([WEEKS[0], AT]))


def test_two_processes_at_once_do_the_work_of_one(
    built: ComparedWarehouse, clean: tuple[list[Any], Contents], backfill_id: int
) -> None:
    first = Process(built, backfill_id, "frozen")
    first.until("reached frozen")
    second = Process(built, backfill_id)
    with pytest.raises(subprocess.TimeoutExpired):
        second.process.wait(timeout=3)
    assert progress(built.settings, backfill_id).weeks_done == 1
    os.kill(first.process.pid, signal.SIGCONT)
    assert first.end() == 0
    assert second.end() == 0
    assert (first.said[-1], second.said[-1]) == ("pulled 3", "pulled 0")
    assert outcome(built, backfill_id) == clean


def test_a_frozen_process_loses_its_turn_and_changes_nothing_when_it_wakes(
    built: ComparedWarehouse, clean: tuple[list[Any], Contents], backfill_id: int
) -> None:
    frozen = Process(built, backfill_id, "frozen")
    frozen.until("reached frozen")
    execute(
        built.settings,
        "update metadata.refresh_log set heartbeat_at = now() - interval '1 hour' "
        "where status = 'running'",
    )
    connection = connect(built.settings, autocommit=True)
    dead = abandon_dead(connection, LIVES)
    connection.close()
    assert len(dead) == 1
    second = Process(built, backfill_id)
    assert second.end() == 0
    assert second.said[-1] == "pulled 2"
    done = outcome(built, backfill_id)
    assert done == clean

    os.kill(frozen.process.pid, signal.SIGCONT)
    assert frozen.end() == 1
    assert "pulled" not in frozen.said[-1]
    assert outcome(built, backfill_id) == done
    assert progress(built.settings, backfill_id).status == "done"


def test_lost_connections_in_the_middle_of_a_week_lose_no_week(
    built: ComparedWarehouse, clean: tuple[list[Any], Contents], backfill_id: int
) -> None:
    """Every connection is gone at once, as when the server restarts."""
    first = Process(built, backfill_id, "frozen")
    first.until("reached frozen")
    killed = execute(
        built.settings,
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid() and application_name like 'oversight run %'",
    )
    assert len(killed) == 2, "the turn and the log of the run"
    os.kill(first.process.pid, signal.SIGCONT)
    assert first.end() == 1
    second = Process(built, backfill_id)
    assert second.end() == 0
    assert outcome(built, backfill_id) == clean
    assert batches(built) == len(WEEKS)
