"""`oversight backfill` from the command line and by the runner, against an engine on a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from compared import ComparedWarehouse
from daemons import HandDaemon, deploy_to, wait_until
from engines import QUICK, ServedEngine, served, specification
from terminals import on_terminal

from runner.backfill import backfill
from runner.cli import main
from runner.pull.pull import pull
from warehouse.database import admin_dsn

RANGE = ("--from", "2026-10-20", "--to", "2026-W46")
"""The four weeks that hold all days of the engine's specification."""


@pytest.fixture(scope="module")
def engine() -> Iterator[ServedEngine]:
    with served(specification(rows=400)) as found:
        yield found


@pytest.fixture
def ready(
    built: ComparedWarehouse,
    engine: ServedEngine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> ComparedWarehouse:
    """An empty warehouse that commands reach, and the engine's address in the environment."""
    built.renew()
    deploy_to(built)
    monkeypatch.setenv("OVERSIGHT_DATABASE_URL", admin_dsn(built.settings))
    monkeypatch.setenv("OVERSIGHT_HOME", str(tmp_path_factory.mktemp("home")))
    for name, value in engine.environ.items():
        monkeypatch.setenv(name, value)
    return built


def oversight(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["backfill", *arguments])


def as_json(*arguments: str) -> Any:
    result = oversight(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def daily(built: ComparedWarehouse) -> list[tuple[Any, ...]]:
    return built.rows("select * from reporting.daily_metrics order by 1, 2, 3")


def leads(daemon: HandDaemon) -> bool:
    daemon.tick()
    return daemon.leadership.epoch is not None


def is_done() -> bool:
    return bool(as_json("status", "1")["backfill"]["status"] == "done")


def test_weeks_over_a_socket_give_what_a_pull_of_everything_does(
    ready: ComparedWarehouse, engine: ServedEngine
) -> None:
    result = on_terminal("backfill", "oversight", *RANGE)
    assert result.status == 0, result.terminal
    assert "backfill 1: 4 weeks of oversight" in result.terminal
    assert "━" in result.terminal
    assert "4 of 4 weeks, 100 %" in result.terminal
    line = "backfill 1: oversight 2026-W43 to 2026-W46 done, 4 of 4 weeks (100 %)"
    assert result.output.startswith(line)
    found = daily(ready)
    assert len(found) > 50
    assert ready.value("select count(*) from metadata.pull_watermarks") == 0
    report = pull(
        ready.settings, ready.catalogue, "oversight", environ=engine.environ, patience=QUICK
    )
    assert report.is_clean
    ready.refresh()
    assert daily(ready) == found

    again = oversight("oversight", "--from", "2026-W43", "--to", "2026-11-10")
    assert again.exit_code == 0
    assert "backfill 1 was asked for before: done" in again.stderr
    assert [item["backfill_id"] for item in as_json("list")["backfills"]] == [1]
    status = as_json("status", "1")
    assert status["backfill"]["percent"] == 100.0
    assert [week["week"] for week in status["weeks"]] == [f"2026-W{n}" for n in range(43, 47)]
    assert {week["status"] for week in status["weeks"]} == {"done"}
    assert "2026-W44  done" in oversight("status", "1").stdout
    log = ready.rows(
        "select job_name, status, rows_affected from metadata.refresh_log "
        "where job_name = 'backfill 1'"
    )
    assert log == [("backfill 1", "success", status["backfill"]["rows_landed"])]


@pytest.mark.usefixtures("ready")
def test_an_engine_that_is_down_fails_the_weeks_and_resume_mends_them(
    engine: ServedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERSIGHT_NATIVE_TOKEN", "wrong")
    failed = oversight("oversight", "--from", "2026-W43", "--to", "2026-W43", "--json")
    assert failed.exit_code == 1
    said = json.loads(failed.stdout)
    assert "oversight backfill resume 1 --only-failed" in said["error"]
    assert said["backfill"]["backfill_id"] == 1
    hint = oversight("oversight", "--from", "2026-W43", "--to", "2026-W43")
    assert hint.exit_code == 1
    assert "error: backfill 1 is failed; go on with `oversight backfill resume 1`" in hint.stderr
    monkeypatch.setenv("OVERSIGHT_NATIVE_TOKEN", engine.environ["OVERSIGHT_NATIVE_TOKEN"])
    assert as_json("resume", "1", "--only-failed")["backfill"]["status"] == "done"


@pytest.mark.usefixtures("ready")
def test_an_engine_whose_address_is_not_set_is_refused_before_any_week_is_tried(
    engine: ServedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OVERSIGHT_NATIVE_URL")
    refused = oversight("oversight", *RANGE)
    assert refused.exit_code == 1
    assert "set OVERSIGHT_NATIVE_URL" in refused.stderr
    assert "then `oversight backfill resume 1`" in refused.stderr
    status = as_json("status", "1")
    assert status["backfill"]["status"] == "failed"
    assert [week["attempt"] for week in status["weeks"]] == [0, 0, 0, 0]
    monkeypatch.setenv("OVERSIGHT_NATIVE_URL", engine.environ["OVERSIGHT_NATIVE_URL"])
    assert as_json("resume", "1")["backfill"]["percent"] == 100.0


def test_ctrl_c_pauses_it(ready: ComparedWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(backfill, "run_backfill", interrupted)
        result = oversight("oversight", "--from", "2026-W43", "--to", "2026-W43")
    assert result.exit_code == 1
    assert "paused; go on with `oversight backfill resume 1`" in result.stderr
    assert as_json("status", "1")["backfill"]["status"] == "paused"
    log = "select status from metadata.refresh_log where job_name = 'backfill 1'"
    assert ready.value(log) == "cancelled"
    assert as_json("resume", "1")["backfill"]["status"] == "done"


def test_what_is_left_to_the_runner_is_done_by_it(ready: ComparedWarehouse) -> None:
    left = as_json("oversight", "--from", "2026-W43", "--to", "2026-W44", "--detach")["backfill"]
    assert (left["status"], left["weeks_left"]) == ("pending", 2)
    assert as_json("pause", "1")["backfill"]["status"] == "paused"
    with HandDaemon(ready) as daemon:
        assert leads(daemon)
        daemon.finish()
        assert as_json("list")["backfills"][0]["status"] == "paused"
        assert as_json("resume", "1", "--detach")["backfill"]["status"] == "pending"
        daemon.tick()
        daemon.finish()
        now = as_json("status", "1")["backfill"]
        assert (now["status"], now["weeks_done"]) == ("done", 2)
        assert ready.rows("select status, error_message from metadata.job_requests") == [
            ("done", None)
        ]


def test_what_a_process_left_is_taken_up_by_the_runner(ready: ComparedWarehouse) -> None:
    """A command that was killed: its run is abandoned, its week runs and has no process."""
    as_json("oversight", "--from", "2026-W43", "--to", "2026-W43", "--detach")
    ready.rows(
        "with dead as (insert into metadata.refresh_log (job_name, status, finished_at) "
        "values ('backfill 1', 'abandoned', now()) returning run_id), "
        "request as (update metadata.job_requests set status = 'running'), "
        "week as (update metadata.backfill_weeks set status = 'running', attempt = 1, "
        "batches_before = 0) "
        "update metadata.backfills set status = 'running', run_id = (select run_id from dead) "
        "returning 1"
    )
    with HandDaemon(ready) as daemon:
        wait_until(lambda: leads(daemon) and is_done(), 90)
    assert ready.value("select attempt from metadata.backfill_weeks") == 2


@pytest.mark.usefixtures("ready")
def test_cancel_and_what_is_wrong_are_said() -> None:
    as_json("oversight", *RANGE, "--detach")
    assert as_json("cancel", "1")["backfill"]["status"] == "cancelled"
    for arguments, said in (
        (("resume", "1"), "backfill 1 is cancelled; ask for its weeks with --again"),
        (("pause", "7"), "there is no backfill 7; see `oversight backfill list`"),
        (("reddit_ads", *RANGE), "`oversight load reddit_ads --path DIR`"),
        (("oversight", "--from", "2025-W01", "--to", "2026-W02"), "at most 52; split it"),
        (("oversight", "--from", "2026-W60", "--to", "2026-W02"), "2026-W60 does not exist"),
        (("oversight", *RANGE), "backfill 1 is cancelled; go on with `--again`"),
    ):
        result = oversight(*arguments)
        assert result.exit_code == 1, arguments
        assert said in result.stderr, arguments
    assert as_json("oversight", *RANGE, "--again", "--detach")["backfill"]["backfill_id"] > 1
