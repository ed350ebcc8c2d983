"""dbt as the runner runs it: warm or not, one result; several at once; a changed project."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from compared import ComparedWarehouse
from projects import copy_project, edit

from runner.runs import dbt_run
from runner.runs.warm_dbt import Dbt, DbtError, fingerprint
from warehouse import dbt as dbt_calls
from warehouse.database import connect
from warehouse.retries import is_transient_message
from warehouse.settings import Settings

INCREMENTAL = "config.materialized:incremental"


@pytest.fixture(scope="module")
def warm(built: ComparedWarehouse) -> Iterator[Dbt]:
    built.renew()
    with Dbt(built.settings, warm=True) as made:
        yield made


@pytest.fixture
def project(built: ComparedWarehouse, tmp_path: Path) -> Settings:
    """The built warehouse, reached with a project of one's own."""
    built.renew()
    return dataclasses.replace(built.settings, project_dir=copy_project(tmp_path / "project"))


def test_a_run_succeeds_and_says_what_dbt_printed(built: ComparedWarehouse, warm: Dbt) -> None:
    built.renew()
    result = warm.start(["run", "--select", INCREMENTAL], run_id=None).wait(60)
    assert result is not None
    assert result.success, result.output
    assert result.failures == ()
    assert "Completed successfully" in result.output
    assert result.dbt_version.startswith("1.11.")


def test_a_plain_process_gives_the_same_result(built: ComparedWarehouse) -> None:
    built.renew()
    with Dbt(built.settings, warm=False) as plain:
        result = plain.start(["run", "--select", "daily_metrics"], run_id=None).wait(60)
    assert result is not None
    assert result.success, result.output
    assert "Completed successfully" in result.output


@pytest.mark.parametrize("is_warm", [True, False])
def test_a_failing_model_is_named_with_its_error(project: Settings, *, is_warm: bool) -> None:
    edit(project.project_dir, "models/reporting/daily_metrics.sql", "final", "finale")
    with Dbt(project, warm=is_warm) as made:
        result = made.start(["run", "--select", "daily_metrics"], run_id=None).wait(60)
    assert result is not None
    assert not result.success
    assert len(result.failures) == 1
    assert result.failures[0].startswith("daily_metrics: ")
    assert "final" in result.failures[0]


def test_what_dbt_does_not_understand_is_a_failure_with_its_words(warm: Dbt) -> None:
    result = warm.start(["run", "--no-such-option"], run_id=None).wait(60)
    assert result is not None
    assert not result.success
    assert "no-such-option" in result.failures[0]


def test_two_runs_at_once_have_their_own_results(built: ComparedWarehouse, warm: Dbt) -> None:
    built.renew()
    good = warm.start(["run", "--select", "daily_metrics"], run_id=None)
    bad = warm.start(["run", "--select", "daily_metrics", "--no-such-option"], run_id=None)
    results = [good.wait(60), bad.wait(60)]
    assert [result and result.success for result in results] == [True, False]
    assert good.pid != bad.pid


def test_sessions_bear_the_runs_name_and_the_guards(
    built: ComparedWarehouse, project: Settings
) -> None:
    """What dbt's own session says of itself, written down by the model's first hook."""
    built.rows("create table public.seen (name text, alive text, idle text)")
    built.rows("grant insert on public.seen to public")
    edit(
        project.project_dir, "macros/refresh/before_refresh.sql", "set local lock_timeout = '10s';",
        "set local lock_timeout = '10s'; insert into public.seen select "
        "current_setting('application_name'), current_setting('client_connection_check_interval'),"
        " current_setting('idle_in_transaction_session_timeout');",
    )  # fmt: skip
    built.rows(
        "insert into metadata.refresh_log (run_id, job_name) overriding system value "
        "values (4711, 'refresh')"
    )
    with Dbt(project, warm=True) as made:
        for run_id in (4711, None):
            result = made.start(["run", "--select", "daily_metrics"], run_id=run_id).wait(60)
            assert result is not None
            assert result.success, result.output
    assert built.rows("select * from public.seen") == [
        ("oversight run 4711", "1s", f"{dbt_calls.IDLE_SECONDS}s"),
        ("dbt", "1s", f"{dbt_calls.IDLE_SECONDS}s"),
    ]


def test_a_changed_project_and_no_other_is_parsed_again(project: Settings) -> None:
    with Dbt(project, warm=True) as made:
        first = made.start(["ls", "--select", "daily_metrics_copy"], run_id=None).wait(60)
        assert first is not None
        assert "oversight.reporting.daily_metrics_copy" not in first.output
        parent = made._parent
        made.start(["ls", "--select", "daily_metrics"], run_id=None).wait(60)
        assert made._parent is parent, "an unchanged project was parsed again"
        folder = project.project_dir / "models" / "staging"
        (folder / "stg_new.sql").write_text("select 1 as one")
        second = made.start(["ls", "--select", "stg_new"], run_id=None).wait(60)
        assert second is not None
        assert "oversight.staging.stg_new" in second.output


def test_a_run_that_has_not_connected_yet_has_longer(
    warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(dbt_run, "time", SimpleNamespace(monotonic=lambda: clock.now))
    slow, working = (dbt_run.DbtRun(warehouse, run_id, tmp_path) for run_id in (4711, 4712))
    session = connect(warehouse, autocommit=True, application_name="oversight run 4712")
    assert not slow.is_stuck()
    assert not working.is_stuck()
    session.close()
    while working._quiet_seconds() is not None:
        time.sleep(0.05)
    for seconds, expected in ((29, (False, False)), (60, (False, True)), (121, (True, True))):
        clock.now = 1000.0 + seconds
        assert (slow.is_stuck(), working.is_stuck()) == expected


def test_a_build_that_was_stopped_does_not_hold_others_for_ever(project: Settings) -> None:
    macro = "macros/refresh/before_refresh.sql"
    edit(project.project_dir, macro, "lock_timeout = '30min'", "lock_timeout = '2s'")
    stopped = connect(project)
    with stopped.cursor() as cursor:
        cursor.execute(
            "select pg_advisory_xact_lock(hashtextextended('oversight:daily_metrics', 0))"
        )
    with Dbt(project, warm=False) as made:
        result = made.start(["run", "--select", "daily_metrics"], run_id=None).wait(60)
    stopped.close()
    assert result is not None, "it waited for ever"
    assert "lock timeout" in result.failures[0]
    assert is_transient_message(result.failures[0])


def test_a_link_to_nothing_is_no_error_and_an_editors_lock_no_change(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "project")
    before = fingerprint(folder)
    (folder / "models" / "reporting" / ".#daily_metrics.sql").symlink_to("me@here.4711:1763")
    assert fingerprint(folder) == before
    (folder / "models" / "reporting" / "lost.sql").symlink_to("nowhere.sql")
    assert len(fingerprint(folder)) == len(before) + 1


def test_a_file_that_goes_while_it_is_looked_at_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_project(tmp_path / "project")
    gone = folder / "models" / "reporting" / "daily_metrics.sql"
    before = fingerprint(folder)
    scan = os.scandir

    def checked_out_meanwhile(path: str) -> list[os.DirEntry[str]]:
        found = list(scan(path))
        if str(gone) in [entry.path for entry in found]:
            gone.unlink()
        return found

    monkeypatch.setattr(os, "scandir", checked_out_meanwhile)
    left = fingerprint(folder)
    assert not gone.exists()
    assert set(before) - set(left) == {state for state in before if state[0] == str(gone)}


def test_a_project_that_no_longer_parses_keeps_its_last_good_state(project: Settings) -> None:
    with Dbt(project, warm=True) as made:
        made.start(["run", "--select", "daily_metrics"], run_id=None).wait(60)
        for file, old, new in (
            ("models/reporting/daily_metrics.sql", 'ref("fact_spend")', 'ref("fact_none")'),
            ("dbt_project.yml", "name: oversight", "name: ["),
            ("profiles.yml", "outputs:", "outputs: ["),
        ):
            edit(project.project_dir, file, old, new)
            result = made.start(["run", "--select", "daily_metrics"], run_id=None).wait(60)
            assert result is not None
            assert result.success, result.output


def test_a_project_that_never_parsed_is_an_error_with_dbts_words(project: Settings) -> None:
    edit(
        project.project_dir, "models/reporting/daily_metrics.sql",
        'ref("fact_spend")', 'ref("fact_none")',
    )  # fmt: skip
    with Dbt(project, warm=True) as made, pytest.raises(DbtError, match="fact_none"):
        made.start(["run"], run_id=None)


def test_a_temporary_folder_that_was_tidied_away_is_made_again(built: ComparedWarehouse) -> None:
    built.renew()
    with Dbt(built.settings, warm=True) as made:
        for _ in range(2):
            result = made.start(["run", "--select", "daily_metrics"], run_id=None).wait(60)
            assert result is not None
            assert result.success, result.output
            shutil.rmtree(made._folder)


def test_nothing_stays_after_close(built: ComparedWarehouse) -> None:
    made = Dbt(built.settings, warm=True)
    run = made.start(["run", "--select", "daily_metrics"], run_id=None)
    parent = made._parent
    assert parent is not None
    made.close()
    result = run.wait(0)
    assert result is not None
    deadline = time.monotonic() + 5
    while Path(f"/proc/{run.pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(run.pid, 0)
    assert not parent.is_able
    assert not made._folder.exists()


def test_folders_of_killed_programs_are_removed(
    warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Dbt(warehouse) as living:
        left, kept = tmp_path / "oversight-dbt-left", living._folder / "lock"
        left.mkdir()
        (left / "lock").touch()
        for path in (left / "lock", kept):
            os.utime(path, (1, 1))
        with Dbt(warehouse):
            assert not left.exists()
            assert kept.exists()
    assert list(tmp_path.iterdir()) == []
