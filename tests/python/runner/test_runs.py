"""A run's row: there before the work, alive during it, and closed exactly once, whatever fails."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg2
import pytest
from daemons import wait_until

from runner.runs import spool
from runner.runs.ending import Ending, abandon_dead, close_rows
from runner.runs.log import RunCancelled, logged_run, logged_runs
from runner.runs.opening import LIVES, SlotTaken, Superseded
from runner.schedule.leader import Leadership
from warehouse.database import connect
from warehouse.settings import Settings

SLOT = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)


def rows(settings: Settings, query: str, *values: Any) -> list[tuple[Any, ...]]:
    connection = connect(settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, values)
            return cursor.fetchall() if cursor.description is not None else []
    finally:
        connection.close()


def states(settings: Settings) -> list[tuple[Any, ...]]:
    return rows(
        settings, "select job_name, status, error_message from metadata.refresh_log order by run_id"
    )


def test_the_row_is_there_and_running_before_the_work_starts(warehouse: Settings) -> None:
    with logged_run(warehouse, "pull ads") as run:
        assert states(warehouse) == [("pull ads", "running", None)]
        run.rows_affected = 7
    assert rows(warehouse, "select status, rows_affected, finished_at >= started_at "
                "from metadata.refresh_log") == [("success", 7, True)]  # fmt: skip


def test_an_error_is_kept_and_raised_on(warehouse: Settings) -> None:
    with pytest.raises(ValueError, match="no such thing"), logged_run(warehouse, "pull ads"):
        raise ValueError("no such thing")
    assert states(warehouse) == [("pull ads", "failed", "no such thing")]


def test_an_interrupt_is_a_cancelled_run(warehouse: Settings) -> None:
    with pytest.raises(KeyboardInterrupt), logged_run(warehouse, "pull ads"):
        raise KeyboardInterrupt
    assert states(warehouse) == [("pull ads", "cancelled", "the run was interrupted")]


def test_a_job_that_still_runs_is_skipped_and_only_that_one(warehouse: Settings) -> None:
    with logged_run(warehouse, "daily"):
        with logged_runs(warehouse, {"daily": SLOT, "weekly": SLOT}) as second:
            assert list(second.run_ids) == ["weekly"]
        with logged_run(warehouse, "daily") as third:
            assert third.is_skipped
    assert [state[:2] for state in states(warehouse)] == [
        ("daily", "success"),
        ("daily", "skipped_overlap"),
        ("weekly", "success"),
        ("daily", "skipped_overlap"),
    ]


def test_a_slot_is_taken_once_by_whoever_comes_first(warehouse: Settings) -> None:
    """Four at one time, for 25 slots: of each exactly one does the work."""
    for number in range(25):
        slot = SLOT + timedelta(minutes=number)
        done: list[bool] = []
        start = threading.Barrier(4)

        def claim(slot: datetime = slot, start: threading.Barrier = start) -> None:
            start.wait()
            try:
                with logged_runs(warehouse, {"daily": slot}) as run:
                    done.append(not run.is_skipped)  # noqa: B023 - joined in the same round
            except SlotTaken:
                pass

        threads = [threading.Thread(target=claim) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done == [True], slot
    assert rows(
        warehouse, "select count(*), min(status), max(status) from metadata.refresh_log"
    ) == [(25, "success", "success")]


def test_a_process_that_freezes_while_it_opens_a_row_lets_the_next_leader_in(
    warehouse: Settings,
) -> None:
    """The frozen one holds the leadership's row; the server ends its session."""
    frozen = connect(warehouse, autocommit=True)
    with frozen.cursor() as cursor:
        cursor.execute(
            "begin; set local idle_in_transaction_session_timeout = '5s'; "
            "set local lock_timeout = '5s'"
        )
        cursor.execute("select from metadata.leadership for share")
        second = Leadership(warehouse)
        wait_until(lambda: second.beat() is not None, 20)
        second.resign()
        with pytest.raises(psycopg2.Error):
            cursor.execute("commit")
    frozen.close()


def test_what_postgresql_can_not_hold_of_an_error_is_replaced(warehouse: Settings) -> None:
    with pytest.raises(ValueError, match="half"), logged_run(warehouse, "daily"):
        raise ValueError("NUL \0 and half a character \ud800")
    ((_, status, message),) = states(warehouse)
    assert (status, message) == ("failed", "NUL \ufffd and half a character ?")


def test_several_that_write_back_at_one_time_do_not_hinder_each_other(warehouse: Settings) -> None:
    ((instance,),) = rows(warehouse, "select instance_id::text from metadata.instance")
    for number in range(30):
        path = spool.keep(
            warehouse,
            Ending(run_ids={"daily": number}, instance_id=instance, status="failed", error=None),
        )
        assert path.exists()
    problems: list[BaseException] = []

    def write_back() -> None:
        connection = connect(warehouse, autocommit=True)
        try:
            spool.write_back(warehouse, connection)
        except BaseException as error:
            problems.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write_back) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert list((warehouse.home / "spool").iterdir()) == []


def test_a_job_may_start_again_as_soon_as_its_run_has_ended(warehouse: Settings) -> None:
    asking = connect(warehouse, autocommit=True)
    lock = "hashtextextended('oversight job daily', 0)"
    try:
        with asking.cursor() as cursor:
            for _ in range(50):
                with logged_run(warehouse, "daily"):
                    pass
                cursor.execute(f"select pg_try_advisory_lock({lock})")
                assert cursor.fetchone() == (True,), "the run that has ended still had it"
                cursor.execute(f"select pg_advisory_unlock({lock})")
    finally:
        asking.close()


def test_a_leadership_that_is_over_starts_nothing(warehouse: Settings) -> None:
    rows(warehouse, "update metadata.leadership set epoch = 5")
    with (
        pytest.raises(Superseded),
        logged_runs(warehouse, {"daily": SLOT}, epoch=4),
    ):
        raise AssertionError("it ran")
    assert states(warehouse) == []
    with logged_runs(warehouse, {"daily": SLOT}, epoch=5):
        pass
    assert states(warehouse) == [("daily", "success", None)]


def test_a_request_to_cancel_reaches_the_run(warehouse: Settings) -> None:
    called = threading.Event()
    with pytest.raises(RunCancelled), logged_run(warehouse, "daily") as run:
        run.on_over(called.set)
        rows(warehouse, "update metadata.refresh_log set cancel_requested_at = now()")
        wait_until(called.is_set, 6)
        run.check()
    assert states(warehouse) == [("daily", "cancelled", "cancelled on request")]


def test_a_final_state_stays(warehouse: Settings) -> None:
    with logged_run(warehouse, "daily"):
        pass
    with pytest.raises(psycopg2.Error, match="has ended as success already"):
        rows(warehouse, "update metadata.refresh_log set status = 'failed'")


def test_a_run_whose_process_lives_is_never_abandoned(warehouse: Settings) -> None:
    connection = connect(warehouse, autocommit=True)
    with logged_run(warehouse, "daily") as run:
        rows(
            warehouse,
            "update metadata.refresh_log set heartbeat_at = now() - interval '50 s'"
            " where run_id = %s",
            run.run_id,
        )
        assert abandon_dead(connection, LIVES) == []
    connection.close()


def test_a_run_that_lost_its_lock_is_abandoned_after_the_grace_and_then_fenced(
    warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same process wakes up later: it learns that its run is over, and writes nothing."""
    monkeypatch.setattr("runner.runs.log.BEAT_SECONDS", 3600.0)
    connection = connect(warehouse, autocommit=True)
    with pytest.raises(RunCancelled), logged_run(warehouse, "daily") as run:
        assert rows(
            warehouse,
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'oversight run log' and datname = current_database()",
        ) == [(True,)]
        wait_until(
            lambda: (
                not rows(
                    warehouse,
                    "select 1 from pg_locks as k join pg_database as d on d.oid = k.database "
                    "where k.classid = %s and d.datname = current_database()",
                    LIVES,
                )
            ),
            5,
        )
        assert abandon_dead(connection, LIVES) == [], "not yet: it may be connecting anew"
        rows(warehouse, "update metadata.refresh_log set heartbeat_at = now() - interval '16 s'")
        assert [dead.run_id for dead in abandon_dead(connection, LIVES)] == [run.run_id]
        with pytest.raises(psycopg2.Error, match="is over"):
            rows(warehouse, "select metadata.require_running(%s)", run.run_id)
        run.cancel("woken")
        run.check()
    ((_, status, message),) = states(warehouse)
    assert status == "abandoned"
    assert "last sign of life" in message
    connection.close()


def test_a_run_without_a_heartbeat_is_frozen_even_with_its_lock(
    warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.runs.log.BEAT_SECONDS", 3600.0)
    connection = connect(warehouse, autocommit=True)
    with logged_run(warehouse, "daily"):
        rows(warehouse, "update metadata.refresh_log set heartbeat_at = now() - interval '61 s'")
        assert len(abandon_dead(connection, LIVES)) == 1
    connection.close()
    assert [state[:2] for state in states(warehouse)] == [("daily", "abandoned")]


def test_an_end_that_could_not_be_written_is_kept_and_written_later(
    warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise psycopg2.OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as patch:
        patch.setattr("runner.runs.log.close_rows", away)
        patch.setattr("runner.runs.log._CLOSE_SECONDS", 0.5)
        with logged_run(warehouse, "daily") as run:
            run.rows_affected = 3
    assert [state[:2] for state in states(warehouse)] == [("daily", "running")]
    assert len(list((warehouse.home / "spool").iterdir())) == 1
    with logged_run(warehouse, "weekly"):
        pass
    ended = "select job_name, status, rows_affected from metadata.refresh_log order by run_id"
    assert rows(warehouse, ended) == [("daily", "success", 3), ("weekly", "success", 0)]
    assert list((warehouse.home / "spool").iterdir()) == []


def test_what_was_kept_for_another_warehouse_is_left_alone(warehouse: Settings) -> None:
    with logged_run(warehouse, "daily") as run:
        other = "00000000-0000-0000-0000-000000000000"
        path = spool.keep(
            warehouse,
            Ending(run_ids=run.run_ids, instance_id=other, status="failed", error="elsewhere"),
        )
        connection = connect(warehouse, autocommit=True)
        assert spool.write_back(warehouse, connection) == 0
        assert path.exists()
        path.unlink()
        broken = path.with_name(
            f"run-{rows(warehouse, 'select instance_id from metadata.instance')[0][0]}-1.json"
        )
        broken.write_text("{", encoding="utf-8")
        assert spool.write_back(warehouse, connection) == 0
        assert broken.with_suffix(".unreadable").exists()
        connection.close()


def test_marts_done_together_have_each_their_own_end_and_count(
    warehouse: Settings,
) -> None:
    with (
        pytest.raises(ValueError, match="weekly broke"),
        logged_runs(warehouse, {"daily": SLOT, "weekly": SLOT}) as run,
    ):
        rows(
            warehouse,
            "insert into metadata.refresh_log_model"
            " (run_id, model, rows_inserted, rows_updated, rows_deleted)"
            " values (%s, 'fact_spend', 5, 0, 0), (%s, 'daily', 1, 2, 3)",
            run.run_id,
            run.run_id,
        )
        raise ValueError("weekly broke")
    assert rows(warehouse, "select job_name, status, rows_affected, models, error_message "
                "from metadata.refresh_log order by run_id") == [
        ("daily", "success", 11, ["daily", "fact_spend"], None),
        ("weekly", "failed", 0, [], "weekly broke"),
    ]  # fmt: skip


def test_a_row_that_another_closed_is_not_closed_again(warehouse: Settings) -> None:
    connection = connect(warehouse, autocommit=True)
    with logged_run(warehouse, "daily") as run:
        ending = Ending(run_ids=run.run_ids, instance_id="", status="cancelled", error="first")
        assert close_rows(connection, ending) == 1
        assert close_rows(connection, ending) == 0
    connection.close()
    assert states(warehouse) == [("daily", "cancelled", "first")]
