"""dbt cancelled, killed and frozen in the middle of a query: nothing stays, and the next run works.

The project's models first take a nap as long as `public.nap` says, which is the query that the
faults hit; every test proves that it was under way.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from compared import ComparedWarehouse
from histories import Item, Version
from loads import Loading
from projects import copy_project, edit

from runner.runs import dbt_run, dbt_servers
from runner.runs.warm_dbt import Dbt, DbtRun
from warehouse import dbt as dbt_calls
from warehouse.database import admin_dsn

MODELS = ("fact_spend", "daily_metrics")
BOUND_SECONDS = 2.0
_PATIENCE = 3
_CLIENT = """
import sys
from runner.runs.warm_dbt import Dbt
from warehouse.settings import load_settings
with Dbt(load_settings()) as dbt:
    run = dbt.start(["run", "--select", "fact_spend"], run_id=int(sys.argv[1]))
    print(run.pid, flush=True)
    run.wait()
"""


class Napping:
    """A warehouse whose models nap, with new spend that no refresh has taken yet."""

    def __init__(self, built: ComparedWarehouse, project: Path) -> None:
        self.built = built
        self.settings = dataclasses.replace(built.settings, project_dir=project)
        self.dbt = Dbt(self.settings, warm=True)
        self._whole: list[tuple[object, ...]] = []
        """The mart after a full refresh; the spend is the same every time."""

    def renew(self) -> None:
        self.built.renew()
        # A server of somebody else's, where only dbt's own sessions ask for this.
        self.built.rows(
            f"alter database {self.built.name} set client_connection_check_interval = 0"
        )
        self.built.rows("create table public.nap as select 0::float8 as seconds")
        self.built.rows("grant select on public.nap to public")
        records: list[tuple[int, Item]] = [(number, spend(number)) for number in range(8)]
        Loading(self.settings, self.built.catalogue, self.built.folder(records)).commit()

    def nap(self, seconds: float) -> None:
        self.built.rows("update public.nap set seconds = %s", (seconds,))

    def new_run_id(self) -> int:
        """An open row of the log."""
        ((run_id,),) = self.built.rows(
            "insert into metadata.refresh_log (job_name) values ('refresh') returning run_id"
        )
        return int(run_id)

    def start_and_nap(self, seconds: float = 60) -> tuple[DbtRun, str]:
        """A run that is seen to be in the middle of its query, and the name of its sessions."""
        self.nap(seconds)
        run_id = self.new_run_id()
        run = self.dbt.start(["run", "--select", *MODELS], run_id=run_id)
        name = f"oversight run {run_id}"
        self.wait_for_nap(name)
        return run, name

    def wait_for_nap(self, name: str) -> None:
        wait_until(lambda: bool(self.sessions(name, "state = 'active'")), 60)

    def sessions(self, name: str, condition: str = "true") -> list[int]:
        """Backends of the run; those that do something are in the nap."""
        found = self.built.rows(
            "select pid, query from pg_stat_activity "
            f"where application_name = %s and (state <> 'active' or query ~ 'nap') and {condition}",
            (name,),
        )
        return [pid for pid, _ in found]

    def all_sessions(self, name: str) -> int:
        return int(
            self.built.value(
                f"select count(*) from pg_stat_activity where application_name = '{name}'"
            )
        )

    def time_until_gone(self, name: str, since: float) -> float:
        """Seconds until the server has no session of the run; fails far beyond the bound."""
        wait_until(lambda: not self.all_sessions(name), BOUND_SECONDS * _PATIENCE)
        return time.monotonic() - since

    def assert_next_run_works(self) -> None:
        """The next refresh takes what the broken one did not, and all is as a full one has it."""
        self.nap(0)
        assert not self.built.rows("select from curated.fact_spend"), "the run was not cut short"
        run = self.dbt.start(["run", "--select", *MODELS], run_id=self.new_run_id())
        result = run.wait(120)
        assert result is not None
        assert result.success, result.output
        found = self.built.contents()
        assert len(found["fact_spend"]) == 8
        if not self._whole:
            self.built.refresh_models(is_full=True)
            self._whole = list(self.built.contents()["daily_metrics"])
            assert self._whole
        assert found["daily_metrics"] == self._whole


@pytest.fixture(scope="module")
def made(built: ComparedWarehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Napping]:
    project = copy_project(tmp_path_factory.mktemp("napping"))
    edit(
        project, "macros/refresh/before_refresh.sql", "set local lock_timeout = '10s';",
        "set local lock_timeout = '10s'; select pg_sleep(seconds) from public.nap;",
    )  # fmt: skip
    found = Napping(built, project)
    yield found
    found.dbt.close()


@pytest.fixture
def napping(made: Napping) -> Napping:
    made.renew()
    return made


def spend(number: int) -> Version:
    return Version(
        engine="oversight",
        table="spend",
        values=(
            ("organization_id", "left"),
            ("spend_id", f"s{number}"),
            ("occurred_at", f"2027-01-0{number % 7 + 1}T00:00:00Z"),
            ("partner_id", f"p{number % 3}"),
            ("campaign_id", f"c{number % 2}"),
            ("spend_amount", f"{number}.00"),
            ("currency", "USD"),
        ),
    )


def wait_until(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.02)


def report(figure: str) -> None:
    """Promised seconds are shown; how busy the machine is decides how near they come."""
    sys.stdout.write(f"\n{figure}\n")


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def freeze(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, 5)


def test_a_cancelled_run_has_left_the_database_within_two_seconds(napping: Napping) -> None:
    run, name = napping.start_and_nap()
    since = time.monotonic()
    others = [threading.Thread(target=run.cancel) for _ in range(2)]
    for other in others:
        other.start()
    run.cancel()
    seconds = napping.time_until_gone(name, since)
    report(f"cancelled: gone after {seconds:.2f} s (bound {BOUND_SECONDS} s)")
    for other in others:
        other.join()
    run.cancel()
    result = run.wait(0)
    assert result is not None
    assert not result.success
    assert result.failures == ("dbt: cancelled",)
    assert not is_running(run.pid)
    napping.assert_next_run_works()


def test_a_frozen_run_can_be_cancelled(napping: Napping) -> None:
    run, name = napping.start_and_nap()
    parent = psutil.Process(run.pid).ppid()
    freeze(run.pid)
    since = time.monotonic()
    run.cancel()
    seconds = napping.time_until_gone(name, since)
    report(f"frozen, cancelled: gone after {seconds:.2f} s (bound {BOUND_SECONDS} s)")
    assert run.wait(0) is not None
    assert not is_running(run.pid)
    assert is_running(parent), "other runs would have ended with it"
    napping.assert_next_run_works()


def test_a_killed_run_fails_and_leaves_no_query(napping: Napping) -> None:
    run, name = napping.start_and_nap()
    since = time.monotonic()
    os.kill(run.pid, signal.SIGKILL)
    result = run.wait(10)
    assert result is not None
    assert not result.success
    assert "SIGKILL" in result.failures[0]
    seconds = napping.time_until_gone(name, since)
    report(f"killed: gone after {seconds:.2f} s (bound {BOUND_SECONDS} s)")
    napping.assert_next_run_works()


def test_a_killed_parent_fails_its_runs_and_is_started_again(napping: Napping) -> None:
    run, name = napping.start_and_nap()
    parent = psutil.Process(run.pid).ppid()
    assert parent != os.getpid()
    freeze(run.pid)
    since = time.monotonic()
    os.kill(parent, signal.SIGKILL)
    result = run.wait(10)
    assert result is not None
    assert not result.success
    seconds = napping.time_until_gone(name, since)
    report(f"parent killed: gone after {seconds:.2f} s (bound {BOUND_SECONDS} s)")
    wait_until(lambda: not is_running(run.pid), 5)
    napping.assert_next_run_works()


def test_a_frozen_parent_is_replaced(napping: Napping, monkeypatch: pytest.MonkeyPatch) -> None:
    run, name = napping.start_and_nap()
    parent = psutil.Process(run.pid).ppid()
    freeze(parent)
    monkeypatch.setattr(dbt_servers, "_START_SECONDS", 1)
    second = napping.dbt.start(["run", "--select", *MODELS], run_id=napping.new_run_id())
    assert psutil.Process(second.pid).ppid() != parent
    second.cancel()
    result = run.wait(10)
    assert result is not None
    assert not result.success
    napping.time_until_gone(name, time.monotonic())
    assert not is_running(parent)
    napping.assert_next_run_works()


def test_a_run_whose_parent_is_frozen_can_be_cancelled(napping: Napping) -> None:
    run, name = napping.start_and_nap()
    freeze(psutil.Process(run.pid).ppid())
    run.cancel()
    result = run.wait(0)
    assert result is not None
    assert not result.success
    napping.time_until_gone(name, time.monotonic())
    napping.assert_next_run_works()


def test_a_frozen_run_lets_go_of_its_locks_and_is_found_out(
    napping: Napping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dbt_calls, "IDLE_SECONDS", 2)
    monkeypatch.setattr(dbt_run, "STUCK_SECONDS", 4)
    run, name = napping.start_and_nap(2)
    assert not run.is_stuck()
    freeze(run.pid)
    wait_until(lambda: bool(napping.sessions(name, "state = 'idle in transaction'")), 10)
    assert locks(napping, name), "the frozen run held no lock"
    since = time.monotonic()
    assert not run.is_stuck()
    wait_until(lambda: not locks(napping, name), 2 * _PATIENCE)
    report(f"frozen: locks gone after {time.monotonic() - since:.2f} s (bound 2 s here)")
    assert is_running(run.pid)
    wait_until(run.is_stuck, 4 * _PATIENCE)
    report(f"frozen: found out after {time.monotonic() - since:.2f} s (bound 4 s here)")
    run.cancel()
    result = run.wait(0)
    assert result is not None
    assert not result.success
    napping.assert_next_run_works()


def test_a_long_query_is_not_taken_for_idleness(
    napping: Napping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dbt's other sessions wait meanwhile, and none of them may do so in a transaction."""
    monkeypatch.setattr(dbt_calls, "IDLE_SECONDS", 1)
    run, _ = napping.start_and_nap(3)
    result = run.wait(60)
    assert result is not None
    assert result.success, result.output


def locks(napping: Napping, name: str) -> list[tuple[object, ...]]:
    """Advisory locks and locks on tables of the run."""
    return napping.built.rows(
        "select locktype, mode from pg_locks join pg_stat_activity using (pid) "
        "where application_name = %s and granted and locktype in ('advisory', 'relation')",
        (name,),
    )


@pytest.mark.parametrize("form", ["warm", "subprocess"])
def test_a_killed_daemon_leaves_no_process_and_no_query(napping: Napping, form: str) -> None:
    napping.nap(60)
    run_id = napping.new_run_id()
    name = f"oversight run {run_id}"
    with client(napping, form, run_id) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        napping.wait_for_nap(name)
        descendants = psutil.Process(process.pid).children(recursive=True)
        assert pid in [found.pid for found in descendants]
        since = time.monotonic()
        process.kill()
        process.wait()
        seconds = napping.time_until_gone(name, since)
        report(f"daemon killed ({form}): gone after {seconds:.2f} s (bound {BOUND_SECONDS} s)")
        wait_until(lambda: not any(is_running(found.pid) for found in descendants), 5)
    napping.assert_next_run_works()


def test_a_daemon_killed_while_dbt_parses_leaves_no_process(napping: Napping) -> None:
    with client(napping, "warm", napping.new_run_id()) as process:
        parent = psutil.Process(process.pid)
        wait_until(lambda: bool(parent.children()), 20)
        descendants = parent.children(recursive=True)
        process.kill()
        process.wait()
        wait_until(lambda: not any(is_running(found.pid) for found in descendants), 10)
    napping.assert_next_run_works()


def client(napping: Napping, form: str, run_id: int) -> subprocess.Popen[str]:
    """Another daemon, as far as dbt is concerned."""
    return subprocess.Popen(
        [sys.executable, "-c", _CLIENT, str(run_id)],
        env=os.environ
        | {
            "OVERSIGHT_DATABASE_URL": admin_dsn(napping.settings),
            "OVERSIGHT_PROJECT_DIR": str(napping.settings.project_dir),
            "OVERSIGHT_DBT": form,
        },
        stdout=subprocess.PIPE,
        text=True,
    )
