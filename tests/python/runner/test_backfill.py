"""Backfill: a ledger of weeks, each done when the marts hold it; one job, stopped at will."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta

import pytest
from backfills import (
    ENGINE,
    EngineError,
    FakeEngine,
    days_of,
    deploy,
    execute,
    is_free,
    ledger,
    open_run,
    statuses,
    steps,
)
from compared import ComparedWarehouse
from daemons import wait_until

from runner.backfill import backfill as module
from runner.backfill import evidence
from runner.backfill import turn as turns
from runner.backfill.backfill import backfill_of, run_backfill
from runner.backfill.ledger import note_run, progress
from runner.backfill.requests import (
    cancel,
    pause,
    request_backfill,
    resume,
    revive,
)
from runner.backfill.turn import Turn, TurnLostError
from runner.runs.log import RunCancelled
from runner.schedule.requests import put_back
from warehouse.backfills import BackfillError
from warehouse.database import connect
from warehouse.settings import Settings
from warehouse.weeks import WeekError, label, mondays, parse_week, window

TODAY = date(2026, 11, 20)
FIRST = date(2026, 1, 5)
WEEKS = [FIRST + timedelta(days=7 * number) for number in range(4)]


@pytest.fixture
def ready(built: ComparedWarehouse, monkeypatch: pytest.MonkeyPatch) -> ComparedWarehouse:
    """An empty warehouse with a deployed catalogue, and no waiting for seconds."""
    built.renew()
    deploy(built.settings, built.catalogue)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.02)
    return built


def ask(settings: Settings, last: date = WEEKS[-1], first: date = FIRST) -> int:
    return request_backfill(settings, ENGINE, first, last, today=TODAY).backfill_id


class TestWeeks:
    @pytest.mark.parametrize(
        ("text", "monday"),
        [
            ("2026-W01", date(2025, 12, 29)),
            ("2026-01-01", date(2025, 12, 29)),
            ("2026-W53", date(2026, 12, 28)),
            ("2027-01-03", date(2026, 12, 28)),
            ("2027-W01", date(2027, 1, 4)),
            ("2020-W53", date(2020, 12, 28)),
            ("2021-01-03", date(2020, 12, 28)),
            ("2024-02-29", date(2024, 2, 26)),
        ],
    )
    def test_a_week_is_named_by_itself_or_by_any_of_its_days(self, text: str, monday: date) -> None:
        assert parse_week(text) == monday
        assert parse_week(label(monday)) == monday
        assert window(monday) == (monday, monday + timedelta(days=6))

    @pytest.mark.parametrize(
        "text", ["2025-W53", "2026-W54", "2026-W00", "2026-02-30", "2026-W5", "W05", "today", ""]
    )
    def test_what_is_no_week_is_refused(self, text: str) -> None:
        with pytest.raises(WeekError):
            parse_week(text)

    @pytest.mark.parametrize(
        ("first", "last"),
        [("2020-W02", "2020-W53"), ("2020-W53", "2021-W51"), ("2026-W02", "2026-W53"),
         ("2026-W53", "2027-W51"), ("2027-W01", "2027-W52"), ("2025-W01", "2025-W52")],
    )  # fmt: skip
    def test_52_weeks_are_52_consecutive_mondays_whatever_the_year_has(
        self, first: str, last: str
    ) -> None:
        begin, end = parse_week(first), parse_week(last)
        found = mondays(begin, end, most=53, today=date(2030, 1, 1))
        assert {(b - a).days for a, b in itertools.pairwise(found)} == {7}
        assert len(found) == 52

    def test_a_53rd_week_is_too_many_and_the_error_says_how_to_split(self) -> None:
        first, last = parse_week("2026-W01"), parse_week("2026-W53")
        with pytest.raises(WeekError, match=r"are 53 weeks.* 2026-W01 to 2026-W52, 2026-W53 to"):
            mondays(first, last, most=52, today=date(2030, 1, 1))

    def test_the_week_of_today_may_be_asked_for_and_the_next_one_not(self) -> None:
        this = parse_week("2026-W47")
        assert mondays(this, this, most=52, today=TODAY) == [this]
        with pytest.raises(WeekError, match=r"2026-W48 has not begun.*2026-W47"):
            mondays(this, this + timedelta(days=7), most=52, today=TODAY)
        with pytest.raises(WeekError, match="is after"):
            mondays(this, this - timedelta(days=7), most=52, today=TODAY)


class TestRequests:
    def test_the_same_request_twice_is_one_backfill_and_one_job(
        self, ready: ComparedWarehouse
    ) -> None:
        first = request_backfill(ready.settings, ENGINE, FIRST, WEEKS[1], today=TODAY)
        second = request_backfill(ready.settings, ENGINE, FIRST, WEEKS[1], today=TODAY)
        other = request_backfill(ready.settings, ENGINE, FIRST, WEEKS[2], today=TODAY)
        assert (first.is_new, second.is_new, other.is_new) == (True, False, True)
        assert first.backfill_id == second.backfill_id != other.backfill_id
        assert ready.value("select count(*) from metadata.job_requests") == 2
        assert ready.value("select count(*) from metadata.backfill_weeks") == 2 + 3

    def test_two_that_ask_at_once_ask_for_one(self, ready: ComparedWarehouse) -> None:
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda: found.append(ask(ready.settings))) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(found) == 6
        assert len(set(found)) == 1

    def test_again_is_a_new_one_only_after_the_last_has_ended(
        self, ready: ComparedWarehouse
    ) -> None:
        def again() -> tuple[int, bool]:
            made = request_backfill(ready.settings, ENGINE, FIRST, FIRST, again=True, today=TODAY)
            return made.backfill_id, made.is_new

        first = ask(ready.settings, FIRST)
        assert again() == (first, False)
        cancel(ready.settings, first)
        second, is_new = again()
        assert is_new
        assert again() == (second, False)
        cancel(ready.settings, second)
        third, is_new = again()
        assert is_new
        assert len({first, second, third}) == 3
        assert ask(ready.settings, FIRST) == first

    def test_a_row_of_job_requests_is_a_request_too(self, ready: ComparedWarehouse) -> None:
        ((request_id,),) = ready.rows(
            "insert into metadata.job_requests (kind, arguments) values ('backfill', "
            """'{"engine": "oversight", "from": "2026-01-08", "to": "2026-W03"}') """
            "returning request_id"
        )
        arguments = {"engine": ENGINE, "from": "2026-01-08", "to": "2026-W03"}
        made = backfill_of(ready.settings, request_id, arguments)
        assert backfill_of(ready.settings, request_id, arguments) == made
        assert backfill_of(ready.settings, request_id, {"backfill_id": made}) == made
        assert [row[0] for row in ledger(ready.settings, made)] == WEEKS[:2]
        with pytest.raises(BackfillError, match="lacks from, to"):
            backfill_of(ready.settings, request_id, {"engine": ENGINE})

    def test_an_engine_that_takes_no_window_is_refused_with_what_to_do(
        self, ready: ComparedWarehouse
    ) -> None:
        for engine, said in (
            ("reddit_ads", "has no endpoint.*oversight load reddit_ads --path"),
            ("nobody", "engine nobody is not declared; declared are: .*oversight"),
        ):
            with pytest.raises(BackfillError, match=said):
                request_backfill(ready.settings, engine, FIRST, FIRST, today=TODAY)
        tables = tuple(
            replace(table, endpoint=replace(table.endpoint, window=None))
            if table.endpoint
            else table
            for table in ready.catalogue.sources
        )
        deploy(ready.settings, replace(ready.catalogue, sources=tables))
        with pytest.raises(BackfillError, match=r"take no window.*oversight load oversight"):
            ask(ready.settings)
        assert ready.value("select count(*) from metadata.job_requests") == 0

    def test_how_many_weeks_and_which_are_closed_is_declared(
        self, ready: ComparedWarehouse
    ) -> None:
        deploy(ready.settings, replace(ready.catalogue, backfill_max_weeks=2))
        with pytest.raises(WeekError, match="4 weeks, and one backfill has at most 2"):
            ask(ready.settings)
        assert ask(ready.settings, WEEKS[1])
        assert ready.value("select max_weeks from metadata.backfills") == 2
        deploy(ready.settings, replace(ready.catalogue, closed_before=str(WEEKS[1])))
        with pytest.raises(BackfillError, match="weeks before 2026-W03 are closed"):
            ask(ready.settings)
        assert ask(ready.settings, WEEKS[2], WEEKS[1])


class TestRunning:
    def test_every_week_lands_and_is_in_the_marts_and_in_the_ledger(
        self, ready: ComparedWarehouse
    ) -> None:
        engine, run = FakeEngine(), open_run(ready.settings)
        backfill_id = ask(ready.settings)
        seen: list[tuple[str, float, str | None]] = []
        run_backfill(
            ready.settings,
            backfill_id,
            run,
            steps=steps(ready, engine),
            on_progress=lambda now: seen.append((now.status, now.percent, now.running_week)),
        )
        assert engine.asked == WEEKS
        days = ready.rows("select day from reporting.daily_metrics order by day")
        assert [day for (day,) in days] == days_of(WEEKS)
        assert run.rows_affected == 8
        now = progress(ready.settings, backfill_id)
        assert (now.status, now.weeks_done, now.percent, now.rows_landed) == ("done", 4, 100.0, 8)
        assert [share for _, share, week in seen if week is None] == [25.0, 50.0, 75.0, 100.0]
        assert [week for _, _, week in seen if week] == [label(week) for week in WEEKS]
        rows = ledger(ready.settings, backfill_id)
        assert {row[1:4] for row in rows} == {("done", 2, 0)}
        assert len({row[4] for row in rows}) == 4, "each week has a checksum of its own"
        assert all("daily_metrics" in row[5] for row in rows)
        assert ready.rows(
            "select status, finished_at is not null, run_id from metadata.job_requests"
        ) == [("done", True, run.run_id)]
        assert ready.value("select count(*) from metadata.batch_tables where is_backfill") == 4
        run_backfill(ready.settings, backfill_id, run, steps=steps(ready, engine))
        assert engine.asked == WEEKS, "what is done is not done again"

    def test_the_marts_checksum_is_of_the_weeks_rows_alone(self, ready: ComparedWarehouse) -> None:
        engine = FakeEngine()
        for last in (WEEKS[0], WEEKS[1]):
            backfill_id = ask(ready.settings, last)
            run_backfill(
                ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
            )
        once, again = ledger(ready.settings, backfill_id - 1), ledger(ready.settings, backfill_id)
        assert once[0][5] == again[0][5] != again[1][5]

    def test_a_week_of_which_the_engine_has_nothing_is_skipped(
        self, ready: ComparedWarehouse
    ) -> None:
        engine = FakeEngine()
        engine.empty = {WEEKS[1]}
        backfill_id = ask(ready.settings, WEEKS[2])
        run_backfill(
            ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
        )
        assert statuses(ready.settings, backfill_id) == ["done", "skipped", "done"]
        now = progress(ready.settings, backfill_id)
        assert (now.status, now.percent, now.weeks_skipped) == ("done", 100.0, 1)

    def test_a_week_that_fails_is_tried_again_after_the_others_and_then_failed(
        self, ready: ComparedWarehouse
    ) -> None:
        engine = FakeEngine()
        engine.broken = {WEEKS[0]: 2, WEEKS[1]: 99}
        backfill_id = ask(ready.settings, WEEKS[2])
        with pytest.raises(BackfillError, match=r"2026-W03: the engine gave 500.*--only-failed"):
            run_backfill(
                ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
            )
        assert engine.asked == [*WEEKS[:3], *WEEKS[:2], *WEEKS[:2]]
        assert statuses(ready.settings, backfill_id) == ["done", "failed", "done"]
        now = progress(ready.settings, backfill_id)
        assert (now.status, now.failed_weeks, now.percent) == ("failed", ("2026-W03",), 66.7)
        assert ready.rows("select status, error_message from metadata.job_requests") == [
            ("failed", now.error_message)
        ]

        engine.broken, engine.asked = {}, []
        resume(ready.settings, backfill_id, only_failed=True)
        assert ready.rows("select status, finished_at from metadata.job_requests") == [
            ("pending", None)
        ]
        run_backfill(
            ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
        )
        assert engine.asked == [WEEKS[1]]
        assert progress(ready.settings, backfill_id).status == "done"
        assert ready.value("select count(*) from reporting.daily_metrics") == 6
        with pytest.raises(BackfillError, match="is done"):
            resume(ready.settings, backfill_id)

    def test_a_failing_refresh_is_repeated_without_landing_again(
        self, ready: ComparedWarehouse
    ) -> None:
        engine, count = FakeEngine(), iter(range(99))

        def refresh(*_: object) -> None:
            if next(count) < 2:
                raise BackfillError("dbt said no")
            ready.refresh()

        backfill_id = ask(ready.settings, FIRST)
        run_backfill(
            ready.settings,
            backfill_id,
            open_run(ready.settings),
            steps=replace(steps(ready, engine), refresh=refresh),
        )
        assert engine.asked == [FIRST]
        assert statuses(ready.settings, backfill_id) == ["done"]
        assert ready.value("select max(attempt) from metadata.backfill_weeks") == 3

    def test_batches_whose_commit_was_not_heard_of_are_found_each_by_its_own_week(
        self, ready: ComparedWarehouse
    ) -> None:
        engine = FakeEngine()

        def lose(_monday: date) -> None:
            raise EngineError("the answer to the commit was lost")

        engine.after = lose
        backfill_id = ask(ready.settings, WEEKS[1])
        run_backfill(
            ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
        )
        assert engine.asked == WEEKS[:2], "what had landed is not pulled again"
        assert statuses(ready.settings, backfill_id) == ["done", "done"]
        assert ready.rows(
            "select w.week from metadata.backfill_weeks as w "
            "join metadata.batches as b on b.batch_id = w.batch_id and b.window_from = w.week "
            "order by w.week"
        ) == [(week,) for week in WEEKS[:2]]

    def test_waiting_for_a_long_landing_uses_up_no_attempt(
        self, ready: ComparedWarehouse, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(evidence, "LOCK_TIMEOUT", "50ms")
        engine = FakeEngine()
        engine.broken = {FIRST: 1}
        backfill_id = ask(ready.settings, FIRST)
        landing = connect(ready.settings)
        with landing.cursor() as cursor:
            cursor.execute(
                "select pg_advisory_xact_lock(hashtextextended('oversight.load.oversight', 0))"
            )
        for _ in range(4):
            with pytest.raises(BackfillError, match="2026-W02: another landing of oversight takes"):
                run_backfill(
                    ready.settings,
                    backfill_id,
                    open_run(ready.settings),
                    steps=steps(ready, engine),
                )
            assert statuses(ready.settings, backfill_id) == ["pending"]
        landing.close()
        run_backfill(
            ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
        )
        assert statuses(ready.settings, backfill_id) == ["done"]
        assert ready.value("select attempt from metadata.backfill_weeks") == 2

    def test_a_week_is_not_done_while_a_mart_lacks_it(self, ready: ComparedWarehouse) -> None:
        backfill_id = ask(ready.settings, FIRST)
        only_one = replace(
            steps(ready, FakeEngine()),
            refresh=lambda *_: ready.refresh_models(("fact_spend", "fact_events", "daily_metrics")),
        )
        with pytest.raises(BackfillError, match="weekly_partner_performance did not take batch"):
            run_backfill(ready.settings, backfill_id, open_run(ready.settings), steps=only_one)
        assert statuses(ready.settings, backfill_id) == ["failed"]


class TestStopping:
    def at_second_week(self, do: Callable[[], object]) -> FakeEngine:
        engine = FakeEngine()

        def before(monday: date) -> None:
            if monday == WEEKS[1]:
                do()

        engine.before = before
        return engine

    def test_pause_takes_effect_after_the_week_and_resume_goes_on(
        self, ready: ComparedWarehouse
    ) -> None:
        backfill_id = ask(ready.settings)
        engine = self.at_second_week(lambda: pause(ready.settings, backfill_id))
        run_backfill(
            ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
        )
        assert statuses(ready.settings, backfill_id) == ["done", "done", "pending", "pending"]
        now = progress(ready.settings, backfill_id)
        assert (now.status, now.percent, now.weeks_left) == ("paused", 50.0, 2)
        run_backfill(
            ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
        )
        assert engine.asked == WEEKS[:2], "it is paused"
        with pytest.raises(BackfillError, match="no week that failed"):
            resume(ready.settings, backfill_id, only_failed=True)
        resume(ready.settings, backfill_id)
        run_backfill(
            ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
        )
        assert engine.asked == WEEKS
        assert progress(ready.settings, backfill_id).status == "done"

    def test_resuming_only_failed_weeks_leaves_those_never_tried(
        self, ready: ComparedWarehouse
    ) -> None:
        backfill_id = ask(ready.settings)
        execute(
            ready.settings,
            "update metadata.backfill_weeks set status = 'failed', attempt = 3, "
            "finished_at = now(), error_message = 'x' where week = %s",
            WEEKS[2],
        )
        pause(ready.settings, backfill_id)
        resume(ready.settings, backfill_id, only_failed=True)
        engine = FakeEngine()
        run_backfill(
            ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
        )
        assert engine.asked == [WEEKS[2]]
        assert progress(ready.settings, backfill_id).status == "paused"
        resume(ready.settings, backfill_id)
        run_backfill(
            ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
        )
        assert progress(ready.settings, backfill_id).status == "done"

    def test_cancel_breaks_the_week_off_and_is_final(self, ready: ComparedWarehouse) -> None:
        backfill_id, run = ask(ready.settings), open_run(ready.settings)

        def end() -> None:
            cancel(ready.settings, backfill_id)
            assert ready.value(
                "select cancel_requested_at is not null from metadata.refresh_log "
                f"where run_id = {run.run_id}"
            )
            run.over = RunCancelled("cancelled on request")

        engine = self.at_second_week(end)
        with pytest.raises(RunCancelled):
            run_backfill(ready.settings, backfill_id, run, steps=steps(ready, engine))
        assert statuses(ready.settings, backfill_id) == ["done", "pending", "pending", "pending"]
        assert ready.rows("select status from metadata.job_requests") == [("cancelled",)]
        with pytest.raises(BackfillError, match="is cancelled; ask for its weeks with --again"):
            resume(ready.settings, backfill_id)
        end_run(ready.settings, run.run_id)
        assert revive_all(ready.settings) == []

    def test_a_run_that_a_person_cancelled_cancels_its_backfill_and_a_stopped_one_does_not(
        self, ready: ComparedWarehouse
    ) -> None:
        backfill_id = ask(ready.settings)
        for is_asked, status in ((False, "running"), (True, "cancelled")):
            run = open_run(ready.settings)
            if is_asked:
                execute(
                    ready.settings,
                    "update metadata.refresh_log set cancel_requested_at = now() where run_id = %s",
                    run.run_id,
                )
            run.over = RunCancelled("over")
            with pytest.raises(RunCancelled):
                run_backfill(ready.settings, backfill_id, run, steps=steps(ready, FakeEngine()))
            assert progress(ready.settings, backfill_id).status == status
            assert statuses(ready.settings, backfill_id) == ["pending"] * 4
            assert ready.value("select max(attempt) from metadata.backfill_weeks") == 0
            end_run(ready.settings, run.run_id)
            execute(ready.settings, "update metadata.job_requests set status = 'running', "
                    "finished_at = null where status <> 'cancelled'")  # fmt: skip
            expected = [] if is_asked else [backfill_id]
            assert revive_all(ready.settings) == expected


class TestTurns:
    def test_another_backfill_of_the_engine_waits_as_pending(
        self, ready: ComparedWarehouse
    ) -> None:
        backfill_id, run = ask(ready.settings, FIRST), open_run(ready.settings)
        engine = FakeEngine()
        with Turn(ready.settings, ENGINE) as other:
            assert other.take()
            assert not is_free(ready.settings, ENGINE)
            thread = threading.Thread(
                target=run_backfill,
                args=(ready.settings, backfill_id, run),
                kwargs={"steps": steps(ready, engine)},
            )
            thread.start()
            thread.join(0.7)
            assert thread.is_alive(), "it waits"
            assert progress(ready.settings, backfill_id).status == "pending"
            assert engine.asked == []
        thread.join(60)
        assert progress(ready.settings, backfill_id).status == "done"
        wait_until(lambda: is_free(ready.settings, ENGINE), 10)

    def test_who_waits_is_paused_or_cancelled_at_once(self, ready: ComparedWarehouse) -> None:
        backfill_id, run = ask(ready.settings, FIRST), open_run(ready.settings)
        with Turn(ready.settings, ENGINE) as other:
            assert other.take()
            pause(ready.settings, backfill_id)
            run_backfill(ready.settings, backfill_id, run, steps=steps(ready, FakeEngine()))
            resume(ready.settings, backfill_id)
            run.over = RunCancelled("over")
            with pytest.raises(RunCancelled):
                run_backfill(ready.settings, backfill_id, run, steps=steps(ready, FakeEngine()))
            assert progress(ready.settings, backfill_id).status == "pending", "only stopped"
            execute(
                ready.settings,
                "update metadata.refresh_log set cancel_requested_at = now() where run_id = %s",
                run.run_id,
            )
            with pytest.raises(RunCancelled):
                run_backfill(ready.settings, backfill_id, run, steps=steps(ready, FakeEngine()))
            assert progress(ready.settings, backfill_id).status == "cancelled"
        end_run(ready.settings, run.run_id)
        assert revive_all(ready.settings) == []
        assert ready.rows("select status from metadata.job_requests") == [("cancelled",)]

    def test_one_whose_process_died_before_its_run_was_noted_is_asked_for_again(
        self, ready: ComparedWarehouse
    ) -> None:
        backfill_id = request_backfill(
            ready.settings, ENGINE, FIRST, FIRST, today=TODAY, is_taken=True
        ).backfill_id
        assert revive_all(ready.settings) == [], "its run may be about to begin"
        execute(
            ready.settings,
            "update metadata.job_requests set requested_at = now() - interval '61 s'",
        )
        run = open_run(ready.settings, f"backfill {backfill_id}")
        assert revive_all(ready.settings) == [], "its run goes on"
        end_run(ready.settings, run.run_id)
        assert revive_all(ready.settings) == [backfill_id]
        assert ready.rows("select status from metadata.job_requests") == [("pending",)]

    def test_a_new_leader_leaves_a_command_its_backfill(self, ready: ComparedWarehouse) -> None:
        backfill_id = request_backfill(
            ready.settings, ENGINE, FIRST, FIRST, today=TODAY, is_taken=True
        ).backfill_id
        execute(
            ready.settings, "insert into metadata.job_requests (kind, status) "
            "values ('nightly', 'running')"
        )  # fmt: skip
        connection = connect(ready.settings, autocommit=True)
        assert put_back(connection, but=[]) == 1
        note_run(ready.settings, backfill_id, open_run(ready.settings).run_id)
        assert put_back(connection, but=[]) == 0
        connection.close()
        assert ready.rows("select kind, status from metadata.job_requests order by request_id") == [
            ("backfill", "running"),
            ("nightly", "pending"),
        ]
        assert revive_all(ready.settings) == []

    def test_only_so_many_engines_at_one_time(self, warehouse: Settings) -> None:
        held = [Turn(warehouse, f"engine {number}") for number in range(turns.MAX_CONCURRENT + 1)]
        assert [turn.take() for turn in held] == [True] * turns.MAX_CONCURRENT + [False]
        assert is_free(warehouse, f"engine {turns.MAX_CONCURRENT}"), "who can't begin holds nothing"
        held[0].__exit__(None, None, None)
        wait_until(held[-1].take, 10)
        for turn in held[1:]:
            turn.__exit__(None, None, None)

    def test_a_lost_turn_ends_the_run_and_the_next_goes_on(self, ready: ComparedWarehouse) -> None:
        backfill_id = ask(ready.settings, WEEKS[2])
        engine = FakeEngine()
        killed: list[bool] = []

        def kill(monday: date) -> None:
            if monday == WEEKS[0]:
                killed.extend(
                    done
                    for (done,) in execute(
                        ready.settings,
                        "select pg_terminate_backend(pid) from pg_stat_activity where "
                        "application_name like 'oversight run %' "
                        "and datname = current_database()",
                    )
                )

        engine.after = kill
        with pytest.raises(TurnLostError, match="goes on where this one stopped"):
            run_backfill(
                ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
            )
        assert killed == [True], "the fault landed"
        assert statuses(ready.settings, backfill_id) == ["done", "running", "pending"]
        engine.after = lambda _: None
        run_backfill(
            ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
        )
        assert engine.asked == WEEKS[:3]
        assert statuses(ready.settings, backfill_id) == ["done"] * 3

    def test_a_process_whose_week_was_taken_over_writes_nothing(
        self, ready: ComparedWarehouse
    ) -> None:
        """As one that slept through its turn and wakes up."""
        backfill_id = ask(ready.settings, FIRST)
        engine, second = FakeEngine(), FakeEngine()

        def take_over(_monday: date) -> None:
            execute(
                ready.settings,
                "select pg_terminate_backend(pid) from pg_stat_activity where "
                "application_name like 'oversight run %' and datname = current_database()",
            )
            run_backfill(
                ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, second)
            )

        engine.after = take_over
        with pytest.raises(BackfillError, match="another process has taken"):
            run_backfill(
                ready.settings, backfill_id, open_run(ready.settings), steps=steps(ready, engine)
            )
        assert second.asked == [], "what the first had landed was found"
        assert statuses(ready.settings, backfill_id) == ["done"]
        assert ready.value("select attempt from metadata.backfill_weeks") == 2


def end_run(settings: Settings, run_id: int) -> None:
    execute(
        settings,
        "update metadata.refresh_log set status = 'cancelled', finished_at = now() "
        "where run_id = %s",
        run_id,
    )


def revive_all(settings: Settings) -> list[int]:
    connection = connect(settings, autocommit=True)
    try:
        return revive(connection)
    finally:
        connection.close()
