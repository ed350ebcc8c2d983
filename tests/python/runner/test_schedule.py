"""The daemon does what is due once, together, in the cadence of the deployed catalogue."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest
from compared import ComparedWarehouse
from daemons import HandDaemon, deploy_to, log_of, set_taken, wait_until
from simulated import specification

from runner.schedule.jobs import wanted_jobs
from runner.simulation.simulate import simulate
from warehouse.catalogue import read_catalogue
from warehouse.database import connect
from warehouse.errors import OversightError
from warehouse.settings import Settings

DAILY, WEEKLY = "daily_metrics", "weekly_partner_performance"

WAITING = """
    select 1 from pg_stat_activity
    where application_name like 'oversight run %' and wait_event_type = 'Lock'
"""


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


@pytest.fixture
def filled(built: ComparedWarehouse, tmp_path_factory: pytest.TempPathFactory) -> ComparedWarehouse:
    """A built warehouse with its catalogue deployed and an extract landed, nothing refreshed."""
    built.renew()
    deploy_to(built)
    folder = tmp_path_factory.mktemp("extracts")
    simulate(specification(folder, rows=300))
    assert built.load("oversight", folder / "oversight").is_clean
    return built


@pytest.fixture
def daemon(filled: ComparedWarehouse) -> Iterator[HandDaemon]:
    with HandDaemon(filled) as made:
        yield made


def ask(
    built: ComparedWarehouse, kind: str, scheduled_for: str | None = None, **arguments: object
) -> int:
    ((request_id,),) = built.rows(
        "insert into metadata.job_requests (kind, arguments, scheduled_for) values (%s, %s, %s)"
        " returning request_id",
        (kind, json.dumps(arguments), scheduled_for),
    )
    return int(request_id)


def is_taken_over(daemon: HandDaemon, before: int) -> bool:
    daemon.tick()
    return len(daemon.jobs) < before


def test_every_mart_with_a_cadence_has_a_job_and_a_view_has_none(warehouse: Settings) -> None:
    assert wanted_jobs(read_catalogue(warehouse.project_dir), {"ads": "*/5 * * * *"}) == [
        (DAILY, "refresh", "*/15 * * * *"),
        (WEEKLY, "refresh", "0 * * * *"),
        ("pull ads", "pull", "*/5 * * * *"),
        ("nightly", "nightly", "30 2 * * *"),
        ("weekly", "weekly", "30 4 * * sun"),
    ]


def test_marts_that_are_due_together_are_one_dbt_and_older_slots_are_missed(
    filled: ComparedWarehouse, daemon: HandDaemon
) -> None:
    set_taken(filled, {DAILY: at("2026-11-20T11:15"), WEEKLY: at("2026-11-20T11:00")})
    daemon.at("2026-11-20T12:01")
    daemon.finish()
    daemon.at("2026-11-20T12:02")
    daemon.finish()
    assert log_of(filled)[2:] == [
        (DAILY, at("2026-11-20T11:30"), "missed"),
        (DAILY, at("2026-11-20T11:45"), "missed"),
        (DAILY, at("2026-11-20T12:00"), "success"),
        (WEEKLY, at("2026-11-20T12:00"), "success"),
    ]
    ((first, none), (second, lead)) = filled.rows(
        "select run_id, lead_run_id from metadata.refresh_log where status = 'success'"
        " and epoch is not null order by run_id"
    )
    assert (none, lead) == (None, first)
    assert filled.rows("select count(*) > 0 from reporting.daily_metrics") == [(True,)]
    ((daily, daily_models), (weekly, weekly_models)) = filled.rows(
        "select rows_affected, models from metadata.refresh_log where run_id in (%s, %s)"
        " order by run_id",
        (first, second),
    )
    ((counted_daily, counted_weekly),) = filled.rows(
        "select (select count(*) from reporting.daily_metrics),"
        " (select count(*) from reporting.weekly_partner_performance)"
    )
    assert weekly == counted_weekly
    assert weekly_models == [WEEKLY]
    assert DAILY in daily_models
    assert "fact_spend" in daily_models
    assert WEEKLY not in daily_models
    assert daily >= counted_daily
    assert filled.rows(
        "select rows_inserted, rows_updated, rows_deleted, seconds > 0"
        " from metadata.refresh_log_model where run_id = %s and model = %s",
        (first, DAILY),
    ) == [(counted_daily, 0, 0, True)]


def test_a_clock_set_back_an_hour_runs_no_slot_twice_and_goes_on_after_it(
    filled: ComparedWarehouse, daemon: HandDaemon
) -> None:
    set_taken(filled, {DAILY: at("2026-11-20T11:45")})
    for moment in ("12:00", "11:00:30", "11:15", "11:59:59", "12:00:30", "12:15"):
        daemon.at(f"2026-11-20T{moment}")
        daemon.finish()
    assert log_of(filled)[1:] == [
        (DAILY, at("2026-11-20T12:00"), "success"),
        (DAILY, at("2026-11-20T12:15"), "success"),
    ]


def test_a_second_daemon_stands_by_and_takes_over_at_once_when_the_first_ends(
    filled: ComparedWarehouse, daemon: HandDaemon
) -> None:
    set_taken(filled, {DAILY: at("2026-11-20T11:45")})
    with HandDaemon(filled) as second:
        daemon.at("2026-11-20T12:00")
        second.at("2026-11-20T12:00")
        daemon.finish()
        assert second.leadership.epoch is None
        first_epoch = daemon.leadership.epoch
        daemon.leadership.resign()
        wait_until(lambda: second.leadership.beat() is not None, 15)
        assert first_epoch is not None
        assert second.leadership.epoch == first_epoch + 1
        second.at("2026-11-20T12:00:30")
        second.finish()
    assert log_of(filled)[1:] == [(DAILY, at("2026-11-20T12:00"), "success")]


def test_what_was_stopped_with_its_runner_is_done_by_the_next_one(
    filled: ComparedWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mart waits for a lock that is held from outside when the runner is told to stop."""
    monkeypatch.setattr("runner.schedule.daemon.STOP_SECONDS", 1.0)
    set_taken(filled, {DAILY: at("2026-11-20T11:45"), WEEKLY: at("2026-11-20T12:00")})
    blocker = connect(filled.settings)
    with blocker.cursor() as cursor:
        cursor.execute(
            "select pg_advisory_xact_lock(hashtextextended('oversight:daily_metrics', 0))"
        )
        first = HandDaemon(filled)
        first.at("2026-11-20T12:00")
        wait_until(lambda: filled.rows(WAITING) != [], 30)
        first.stop()
    blocker.rollback()
    blocker.close()
    assert log_of(filled)[2:] == [(DAILY, at("2026-11-20T12:00"), "cancelled")]
    for _ in range(2):
        with HandDaemon(filled) as second:
            second.at("2026-11-20T12:01")
            second.finish()
    assert log_of(filled)[3:] == [(DAILY, None, "success")]


def test_a_declaration_that_does_not_fit_its_table_holds_up_no_job(
    filled: ComparedWarehouse, daemon: HandDaemon
) -> None:
    set_taken(filled, {DAILY: at("2026-11-20T11:45")})
    source = filled.catalogue.sources[0]
    column = dataclasses.replace(source.columns[-1], data_type="bigint", formats=(), zone=None)
    assert column.data_type != source.columns[-1].data_type
    misfit = dataclasses.replace(source, columns=(*source.columns[:-1], column))
    deploy_to(
        filled,
        dataclasses.replace(filled.catalogue, sources=(misfit, *filled.catalogue.sources[1:])),
    )
    daemon.at("2026-11-20T12:00")
    daemon.finish()
    assert log_of(filled)[1:] == [(DAILY, at("2026-11-20T12:00"), "success")]


def test_a_table_that_is_being_read_holds_up_no_job_and_gets_its_column_later(
    filled: ComparedWarehouse, daemon: HandDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.schedule.daemon.RAW_TABLES_SECONDS", 0.0)
    set_taken(filled, {DAILY: at("2026-11-20T11:45")})
    source = filled.catalogue.source("oversight", "events")
    column = dataclasses.replace(
        source.columns[-1], name="colour", data_type="text", formats=(), zone=None, is_optional=True
    )
    wider = dataclasses.replace(source, columns=(*source.columns, column))
    others = [other for other in filled.catalogue.sources if other != source]
    deploy_to(filled, dataclasses.replace(filled.catalogue, sources=(wider, *others)))
    has_column = (
        "select 1 from information_schema.columns"
        " where table_name = 'oversight__events' and column_name = 'colour'"
    )
    reader = connect(filled.settings)
    with reader.cursor() as cursor:
        cursor.execute("select count(*) from staging.oversight__events")
        daemon.at("2026-11-20T12:00")
        daemon.finish()
        assert log_of(filled)[1:] == [(DAILY, at("2026-11-20T12:00"), "success")]
        assert filled.rows(has_column) == []
    reader.rollback()
    reader.close()
    daemon.at("2026-11-20T12:01")
    assert filled.rows(has_column) == [(1,)]


def test_a_newly_deployed_cadence_is_taken_over_and_counts_from_now_on(
    filled: ComparedWarehouse, daemon: HandDaemon
) -> None:
    daemon.tick()
    before = {job.name: job for job in daemon.jobs}
    mart = filled.catalogue.mart(DAILY)
    others = [other for other in filled.catalogue.marts if other.name != DAILY]
    changed = dataclasses.replace(
        filled.catalogue,
        marts=(dataclasses.replace(mart, cadence="* * * * *"), *others),
        weekly=None,
    )
    deploy_to(filled, changed)
    wait_until(lambda: is_taken_over(daemon, len(before)), 10)
    after = {job.name: job for job in daemon.jobs}
    assert after[DAILY].cadence == "* * * * *"
    assert after[DAILY].since > before[DAILY].since
    assert after[WEEKLY] == before[WEEKLY]
    assert "weekly" not in after


def test_a_slot_that_comes_while_the_job_runs_is_skipped_and_others_go_on(
    filled: ComparedWarehouse, daemon: HandDaemon
) -> None:
    """The mart's lock is held from outside, so that its refresh waits."""
    set_taken(filled, {DAILY: at("2026-11-20T11:15")})
    blocker = connect(filled.settings)
    with blocker.cursor() as cursor:
        cursor.execute(
            "select pg_advisory_xact_lock(hashtextextended('oversight:daily_metrics', 0))"
        )
        daemon.at("2026-11-20T11:30")
        wait_until(lambda: filled.rows(WAITING) != [], 30)
        daemon.at("2026-11-20T11:45")
        request = ask(filled, "refresh", marts=[WEEKLY])
        daemon.at("2026-11-20T11:45:01")
        wait_until(
            lambda: (
                filled.rows(
                    "select status from metadata.job_requests where request_id = %s", (request,)
                )
                == [("done",)]
            ),
            30,
        )
    blocker.rollback()
    blocker.close()
    daemon.finish()
    assert log_of(filled)[1:] == [
        (DAILY, at("2026-11-20T11:30"), "success"),
        (DAILY, at("2026-11-20T11:45"), "skipped_overlap"),
        (f"refresh {WEEKLY}", None, "success"),
    ]


def test_requests_are_done_and_say_how_they_ended(
    filled: ComparedWarehouse, daemon: HandDaemon
) -> None:
    daemon.tick()
    good = ask(filled, "refresh", marts=[DAILY])
    slot = ask(filled, "refresh", scheduled_for="2026-11-20T12:00Z", marts=[DAILY])
    again = ask(filled, "refresh", scheduled_for="2026-11-20T12:00Z", marts=[DAILY])
    wrong = ask(filled, "refresh", marts=["dayly_metrics"])
    wait_until(lambda: is_asked_for_nothing(filled, daemon), 60)
    ends = {
        row[0]: row[1:]
        for row in filled.rows(
            "select q.request_id, q.status, q.error_message, l.status, l.scheduled_for"
            " from metadata.job_requests as q left join metadata.refresh_log as l using (run_id)"
        )
    }
    assert ends[good] == ("done", None, "success", None)
    assert ends[slot] == ("done", None, "success", at("2026-11-20T12:00"))
    assert ends[again][0] == "cancelled"
    assert "has its row already" in ends[again][1]
    assert ends[wrong][0] == "failed"
    assert "dbt knows no mart dayly_metrics" in ends[wrong][1]
    assert len([row for row in log_of(filled) if row[1] is not None]) == 1


def test_slots_of_one_minute_that_were_asked_for_are_one_dbt(
    filled: ComparedWarehouse, daemon: HandDaemon
) -> None:
    daemon.tick()
    ask(filled, "refresh", scheduled_for="2026-11-20T12:00Z", marts=[DAILY])
    daemon.tick()
    ask(filled, "refresh", scheduled_for="2026-11-20T12:00Z", marts=[WEEKLY])
    later = ask(filled, "refresh", scheduled_for="2026-11-20T12:15Z", marts=[DAILY])
    wait_until(lambda: is_asked_for_nothing(filled, daemon), 60)
    runs = filled.rows(
        "select job_name, scheduled_for, status, lead_run_id is not null"
        " from metadata.refresh_log where job_name <> 'manual' order by run_id"
    )
    assert runs == [
        (DAILY, at("2026-11-20T12:00"), "success", False),
        (WEEKLY, at("2026-11-20T12:00"), "success", True),
        (DAILY, at("2026-11-20T12:15"), "success", False),
    ]
    assert filled.rows(
        "select status from metadata.job_requests where request_id <> %s", (later,)
    ) == [("done",), ("done",)]


def is_asked_for_nothing(built: ComparedWarehouse, daemon: HandDaemon) -> bool:
    daemon.tick()
    daemon.finish()
    return not built.rows("select 1 from metadata.job_requests where finished_at is null")


def test_a_failing_mart_is_logged_and_the_next_slot_runs(
    filled: ComparedWarehouse, daemon: HandDaemon
) -> None:
    set_taken(filled, {DAILY: at("2026-11-20T11:15")})
    filled.rows("alter table reporting.daily_metrics rename column margin to margins")
    daemon.at("2026-11-20T11:30")
    daemon.finish()
    filled.rows("alter table reporting.daily_metrics rename column margins to margin")
    daemon.at("2026-11-20T11:45")
    daemon.finish()
    assert log_of(filled)[1:] == [
        (DAILY, at("2026-11-20T11:30"), "failed"),
        (DAILY, at("2026-11-20T11:45"), "success"),
    ]
    ((message,),) = filled.rows(
        "select error_message from metadata.refresh_log where status = 'failed'"
    )
    assert "daily_metrics" in message
    assert "margin" in message


def test_a_mart_that_is_due_later_than_the_night_does_not_fail_its_tests(
    filled: ComparedWarehouse, daemon: HandDaemon
) -> None:
    """The facts and the daily mart have what landed, the weekly one is due in half an hour."""
    set_taken(filled, {"nightly": at("2026-11-19T02:30")})
    done = filled.dbt_run("run", "--select", f"+{DAILY},config.materialized:incremental")
    assert done.success, done.output
    daemon.at("2026-11-20T02:31")
    daemon.finish(180)
    assert log_of(filled, "job_name, status, error_message")[-1] == ("nightly", "success", None)


def test_the_nightly_job_does_every_step_and_names_all_that_fail(
    filled: ComparedWarehouse, daemon: HandDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def back_up(*_: object) -> None:
        raise OversightError("no room for a backup")

    monkeypatch.setattr("runner.schedule.work.back_up", back_up)
    set_taken(filled, {"nightly": at("2026-11-19T02:30")})
    filled.refresh()
    filled.rows("update reporting.daily_metrics set margin = margin + 1 where spend > 0")
    daemon.at("2026-11-20T02:31")
    daemon.finish(180)
    ((job, status, message),) = filled.rows(
        "select job_name, status, error_message from metadata.refresh_log where epoch is not null"
    )
    assert (job, status) == ("nightly", "failed")
    assert "expression_is_true_daily_metrics" in message
    assert "no room for a backup" in message
