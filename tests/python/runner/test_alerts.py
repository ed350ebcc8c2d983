"""Alerts: what fires and when it is over, told once, to every sink, whatever happens between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from api_warehouse import DAILY, ApiWarehouse
from click.testing import CliRunner
from sinks import SECRET, Sink, running_sink

from clusters import PROJECT_DIR
from runner.alerts.check import check_alerts
from runner.cli import main
from warehouse.declared import Catalogue, SourceTable
from warehouse.settings import Settings

SPEND, EVENTS = (
    SourceTable(
        engine="e", name=name, relation=f"e__{name}", description=name, files=(f"{name}.csv",),
        mode="append", key=("a",), columns=(),
    )
    for name in ("spend", "events")
)  # fmt: skip
DECLARED = Catalogue(sources=(EVENTS, SPEND), feeds=(), marts=())
MART = replace(DAILY, cadence="*/5 * * * *", freshness_sla_seconds=900)
FAILED = """
    insert into metadata.refresh_log (job_name, finished_at, status, error_message)
    values ('daily_metrics', clock_timestamp(), 'failed', 'division by zero')
"""
SUCCESS = """
    insert into metadata.refresh_log (job_name, finished_at, status)
    values ('daily_metrics', clock_timestamp(), 'success')
"""
CONDITIONS = "select key, severity from metadata.alert_conditions order by 1"


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running_sink() as made:
        yield made


@pytest.fixture
def watched(warehouse: Settings) -> ApiWarehouse:
    """A warehouse with one mart and its job, on which all is well."""
    made = ApiWarehouse(settings=warehouse)
    made.deploy(replace(DECLARED, marts=(MART,)))
    made.run(
        "insert into metadata.jobs (job_name, kind, cadence)"
        " values ('daily_metrics', 'refresh', '*/5 * * * *');"
        "update metadata.leadership set heartbeat_at = 'infinity'"
    )
    assert made.run(CONDITIONS) == []
    return made


@pytest.fixture
def check(watched: ApiWarehouse, sink: Sink) -> Callable[[], None]:
    """One check with the sink as the only address."""
    settings = replace(watched.settings, alerts=(sink.url,))
    return lambda: check_alerts(settings)


def waiting(watched: ApiWarehouse, seconds: float) -> None:
    """A batch that waits for the mart so long already."""
    watched.run("delete from metadata.waiting_batches")
    watched.run(
        "insert into metadata.data_versions (model, organization_id)"
        " values ('daily_metrics', 'alpha') on conflict do nothing;"
        "insert into metadata.batches (engine, status, path) values ('e', 'landed', '/');"
    )
    watched.run(
        "insert into metadata.waiting_batches"
        " select 'daily_metrics', 'alpha', max(batch_id), now() - make_interval(secs => %s)"
        " from metadata.batches",
        seconds,
    )


class TestConditions:
    @pytest.mark.parametrize("status", ["failed", "abandoned"])
    def test_the_newest_run_of_a_job_failed(self, watched: ApiWarehouse, status: str) -> None:
        watched.run(SUCCESS)
        watched.run(FAILED.replace("'failed'", f"'{status}'"))
        assert watched.run(CONDITIONS) == [("run:daily_metrics", "critical")]
        ((text,),) = watched.run("select text from metadata.alert_conditions")
        assert "division by zero" in text

    @pytest.mark.parametrize("status", ["running", "missed", "skipped_overlap", "cancelled"])
    def test_what_says_nothing_of_success_cures_nothing(
        self, watched: ApiWarehouse, status: str
    ) -> None:
        watched.run(FAILED)
        watched.run(
            "insert into metadata.refresh_log (job_name, finished_at, status) values"
            " ('daily_metrics', case when %s <> 'running' then clock_timestamp() end, %s)",
            status,
            status,
        )
        assert watched.run(CONDITIONS) == [("run:daily_metrics", "critical")]
        watched.run(SUCCESS)
        assert watched.run(CONDITIONS) == []

    def test_what_a_person_ran_is_told_to_the_person(self, watched: ApiWarehouse) -> None:
        watched.run(FAILED.replace("'daily_metrics'", "'refresh daily_metrics'"))
        assert watched.run(CONDITIONS) == []

    def test_what_was_asked_of_the_runner_is_told_for_a_day(self, watched: ApiWarehouse) -> None:
        asked = """
            insert into metadata.refresh_log (job_name, epoch, started_at, finished_at, status)
            values ('backfill 7', 3, now() - %s::interval, now(), 'failed')
        """
        watched.run(asked, "25 hours")
        assert watched.run(CONDITIONS) == []
        watched.run(asked, "23 hours")
        assert watched.run(CONDITIONS) == [("run:backfill 7", "critical")]

    def test_a_failed_backfill_is_told_until_it_is_cancelled(self, watched: ApiWarehouse) -> None:
        asked = "'oversight', '2026-01-05', '2026-01-05', 52, 1, %s, 'f', 'me', 'pending', false"
        for name in ("one", "other"):
            watched.run(f"select metadata.request_backfill({asked})", name)
        watched.run(
            "update metadata.backfills set status = 'failed', finished_at = now();"
            " insert into metadata.refresh_log (job_name, epoch, finished_at, status)"
            " select 'backfill ' || backfill_id, 3, now(), 'failed' from metadata.backfills"
        )
        ((first, second),) = watched.run(
            "select min(backfill_id), max(backfill_id) from metadata.backfills"
        )
        assert len(watched.run(CONDITIONS)) == 2
        ((outcome,),) = watched.run("select outcome from metadata.cancel_backfill(%s)", first)
        assert outcome == "ok"
        assert watched.run(CONDITIONS) == [(f"run:backfill {second}", "critical")]
        status = "select status from metadata.backfills order by backfill_id"
        assert watched.run(status) == [("cancelled",), ("failed",)]

    @pytest.mark.parametrize(
        ("waits", "expected"),
        [(700, None), (740, "warning"), (930, "warning"), (970, "critical")],
        ids=["77 %", "82 %", "just late", "late for a minute"],
    )
    def test_the_sla_is_at_risk_and_then_broken(
        self, watched: ApiWarehouse, waits: float, expected: str | None
    ) -> None:
        """Slots every five minutes have passed and taken nothing."""
        waiting(watched, waits)
        found = watched.run(CONDITIONS)
        assert found == ([("sla:daily_metrics:alpha", expected)] if expected else [])

    def test_a_slot_that_is_still_to_come_in_time_is_no_risk(self, watched: ApiWarehouse) -> None:
        """With a cadence as long as the SLA four fifths of it are used up every time."""
        waiting(watched, 740)
        ((soon,),) = watched.run(
            "select extract(minute from now() + interval '1 minute')::int::text"
        )
        slots = replace(MART, cadence=f"{soon} * * * *")
        watched.deploy(Catalogue(sources=(), feeds=(), marts=(slots,)))
        assert watched.run(CONDITIONS) == []

    def test_a_source_that_is_silent_for_too_long_breaks_it_too(
        self, watched: ApiWarehouse
    ) -> None:
        watched.run(
            "insert into metadata.data_versions (model, organization_id, stale_after)"
            " values ('daily_metrics', 'alpha', now() - interval '2 minutes')"
        )
        ((severity, text),) = watched.run("select severity, text from metadata.alert_conditions")
        assert severity == "critical"
        assert "silent" in text

    def test_failing_parity_is_told_per_mart_and_organization(self, watched: ApiWarehouse) -> None:
        verdict = (
            "insert into metadata.parity_verdicts"
            " (mart, organization_id, partner_id, period, metric, verdict)"
            " values (%s, %s, 'p', %s, %s, %s)"
        )
        for mart, organization, day, metric, state in (
            ("daily_metrics", "alpha", "2026-01-01", "spend", "failed"),
            ("daily_metrics", "alpha", "2026-01-01", "clicks", "failed"),
            ("daily_metrics", "alpha", "2026-01-02", "spend", "failed"),
            ("daily_metrics", "beta", "2026-01-02", "spend", "unchecked"),
            ("dev_ann_reporting.daily_metrics", "beta", "2026-01-02", "spend", "failed"),
        ):
            watched.run(verdict, mart, organization, day, metric, state)
        ((key, text),) = watched.run("select key, text from metadata.alert_conditions")
        assert key == "parity:daily_metrics:alpha"
        assert text.startswith("keys that fail: 2;")

    @pytest.mark.parametrize(
        ("rejected", "is_told"), [(0, False), (10, False), (11, True)], ids=["none", "1 %", "more"]
    )
    def test_rejects_above_one_percent_of_the_newest_batch(
        self, watched: ApiWarehouse, rejected: int, is_told: bool
    ) -> None:
        def land(*files: tuple[str, int, int]) -> None:
            report = ", ".join(
                f'{{"source_table": "{table}", "read": {read}, "rejected": {count}}}'
                for table, read, count in files
            )
            watched.run(
                "insert into metadata.batches (engine, status, path, report)"
                " values ('e', 'landed', '/', %s)",
                f'{{"files": [{report}]}}',
            )

        land(("spend", 500, 500))
        land(("events", 10, 0), ("spend", 400, 0), ("spend", 600, rejected))
        expected = [("rejected:e.spend", "warning")] if is_told else []
        assert watched.run(CONDITIONS) == expected
        watched.deploy(Catalogue(sources=(), feeds=(), marts=(MART,)))
        assert watched.run(CONDITIONS) == [], "what is declared no more is told no more"
        watched.deploy(replace(DECLARED, marts=(MART,), reporting_currency="EUR"))
        assert watched.run(CONDITIONS) == expected
        land(("spend", 0, 0))
        assert watched.run(CONDITIONS) == []

    @pytest.mark.parametrize(("rejected", "is_told"), [(0, False), (1, True)])
    def test_records_of_closed_days_are_left_out_of_the_share(
        self, watched: ApiWarehouse, rejected: int, is_told: bool
    ) -> None:
        watched.run(
            "insert into metadata.batches (engine, status, path, report) values"
            ' (\'e\', \'landed\', \'/\', \'{"files": [{"source_table": "spend", "read": 1000, '
            f'"rejected": {rejected}, "closed": 950}}]}}\')'
        )
        assert watched.run(CONDITIONS) == ([("rejected:e.spend", "warning")] if is_told else [])

    def test_a_batch_that_was_rejected_whole(self, watched: ApiWarehouse) -> None:
        watched.run(
            "insert into metadata.batches (engine, status, path, report)"
            " values ('e', 'rejected', '/', '{\"files\": [], \"error\": \"no such column\"}')"
        )
        ((key, text),) = watched.run("select key, text from metadata.alert_conditions")
        assert key == "rejected:e"
        assert "no such column" in text

    def test_a_table_may_declare_how_many(self, watched: ApiWarehouse) -> None:
        table = replace(SPEND, max_rejected_share=0.2)
        watched.deploy(Catalogue(sources=(table,), feeds=(), marts=(MART,)))
        for rejected, expected in ((200, []), (201, [("rejected:e.spend", "warning")])):
            watched.run(
                "insert into metadata.batches (engine, status, path, report)"
                " values ('e', 'landed', '/', %s)",
                f'{{"files": [{{"source_table": "spend", "read": 1000, "rejected": {rejected}}}]}}',
            )
            assert watched.run(CONDITIONS) == expected

    @pytest.mark.parametrize("heartbeat", ["null", "now() - interval '61 s'"])
    def test_jobs_without_a_leader(self, watched: ApiWarehouse, heartbeat: str) -> None:
        watched.run(f"update metadata.leadership set heartbeat_at = {heartbeat}")
        assert watched.run(CONDITIONS) == [("leader", "critical")]
        watched.run("delete from metadata.jobs")
        assert watched.run(CONDITIONS) == []

    def test_a_job_that_should_have_run_and_did_not(self, watched: ApiWarehouse) -> None:
        watched.run("update metadata.jobs set since = now() - interval '1 hour'")
        assert watched.run(CONDITIONS) == [("dead-man:daily_metrics", "critical")]

    @pytest.mark.parametrize(
        ("taken", "proved", "error", "is_told"),
        [
            ("1 hour", None, None, False),
            ("4 hours", None, None, True),
            ("1 hour", None, "a table differs", True),
            ("1 hour", "1 minute", None, False),
        ],
        ids=["being proved", "never proved", "failed", "proved"],
    )
    def test_the_newest_backup_is_not_proved(
        self,
        watched: ApiWarehouse,
        taken: str,
        proved: str | None,
        error: str | None,
        is_told: bool,
    ) -> None:
        watched.run(
            "insert into metadata.backups (file, taken_at, proved_at, error, sha256)"
            " values ('b', now() - %s::interval, now() - %s::interval, %s, 'x')",
            taken,
            proved,
            error,
        )
        assert watched.run(CONDITIONS) == ([("backup", "critical")] if is_told else [])


class TestTelling:
    def test_fires_once_is_silent_while_it_holds_and_is_over_once(
        self,
        watched: ApiWarehouse,
        sink: Sink,
        check: Callable[[], None],
    ) -> None:
        check()
        assert sink.asked == 0
        watched.run(FAILED)
        check()
        check()
        watched.run(FAILED)
        check()
        assert sink.titles == ["Oversight: 1 new"]
        assert sink.taken[0]["type"] == "failure"
        assert "CRITICAL: daily_metrics failed" in sink.taken[0]["message"]
        watched.run(SUCCESS)
        check()
        check()
        assert sink.titles == ["Oversight: 1 new", "Oversight: 1 over"]
        assert "OVER: daily_metrics failed, after 0 min" in sink.taken[1]["message"]
        assert watched.run(
            "select recovered_at is not null, closed_at is not null, notified_at is not null,"
            " claimed_until from metadata.alerts"
        ) == [(True, True, True, None)]

    def test_the_same_again_is_a_new_alert(
        self,
        watched: ApiWarehouse,
        sink: Sink,
        check: Callable[[], None],
    ) -> None:
        for statement in (FAILED, SUCCESS, FAILED):
            watched.run(statement)
            check()
        assert sink.titles == ["Oversight: 1 new", "Oversight: 1 over", "Oversight: 1 new"]

    def test_all_news_of_a_check_is_one_message(
        self,
        watched: ApiWarehouse,
        sink: Sink,
        check: Callable[[], None],
    ) -> None:
        watched.run(FAILED)
        check()
        waiting(watched, 740)
        watched.run("update metadata.jobs set since = now() - interval '1 hour'")
        watched.run(SUCCESS)
        check()
        assert sink.titles == ["Oversight: 1 new", "Oversight: 2 new, 1 over"]
        assert [line for line in sink.taken[1]["message"].splitlines() if line[0] != " "] == [
            "CRITICAL: daily_metrics does not run",
            "WARNING: daily_metrics of alpha may become late",
            "OVER: daily_metrics failed, after 0 min",
        ]

    def test_a_message_stays_readable_however_much_there_is_to_tell(
        self, watched: ApiWarehouse, sink: Sink, check: Callable[[], None]
    ) -> None:
        waiting(watched, 970)
        watched.run(
            "insert into metadata.waiting_batches"
            " select model, 'o' || n, batch_id, landed_at"
            " from metadata.waiting_batches, generate_series(1, 499) as n"
        )
        check()
        check()
        assert sink.titles == ["Oversight: 500 new"]
        lines = sink.taken[0]["message"].splitlines()
        assert len(lines) == 41
        assert lines[-1] == "and 480 more; `oversight alerts list` shows what holds"

    def test_worse_is_news_and_better_is_not(
        self,
        watched: ApiWarehouse,
        sink: Sink,
        check: Callable[[], None],
    ) -> None:
        for seconds in (740, 750, 970, 740, 970):
            waiting(watched, seconds)
            check()
        assert [message["type"] for message in sink.taken] == ["warning", "failure"]
        assert watched.run("select count(*) from metadata.alerts") == [(1,)]

    def test_without_an_address_it_is_noted_and_an_address_learns_what_is_open(
        self,
        watched: ApiWarehouse,
        sink: Sink,
        check: Callable[[], None],
    ) -> None:
        watched.run(FAILED)
        check_alerts(watched.settings)
        watched.run(SUCCESS)
        check_alerts(watched.settings)
        waiting(watched, 970)
        check_alerts(watched.settings)
        check()
        assert sink.titles == ["Oversight: 1 new"]
        assert "is late" in sink.taken[0]["message"]

    def test_a_database_that_is_away_is_no_error_of_the_caller(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        away = Settings(
            project_dir=PROJECT_DIR,
            home=PROJECT_DIR,
            database_url="postgresql://a:pass@127.0.0.1:1/b",
        )
        check_alerts(away)
        shown = "".join(capsys.readouterr())
        assert "alerts not checked" in shown
        assert "pass" not in shown


class TestCommands:
    @pytest.fixture(autouse=True)
    def _environment(
        self,
        watched: ApiWarehouse,
        sink: Sink,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("OVERSIGHT_DATABASE_URL", str(watched.settings.database_url))
        monkeypatch.setenv("OVERSIGHT_ALERTS", sink.url)

    def test_a_test_message_says_whether_it_came_through(
        self,
        sink: Sink,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        done = CliRunner().invoke(main, ["alerts", "test"])
        assert (done.exit_code, done.stdout) == (0, "1 json: sent\n")
        assert sink.titles == ["Oversight: a test"]
        monkeypatch.setenv("OVERSIGHT_ALERTS", f"{sink.url},nosuch://{SECRET}")
        done = CliRunner().invoke(main, ["alerts", "test"])
        assert done.exit_code == 1
        assert "2 nosuch: Apprise knows no such address" in done.stderr
        assert SECRET not in done.output

    def test_a_test_without_an_address_says_what_to_set(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("OVERSIGHT_ALERTS")
        done = CliRunner().invoke(main, ["alerts", "test"])
        assert done.exit_code == 1
        assert "OVERSIGHT_ALERTS is not set" in done.stderr

    def test_what_is_open_is_listed_before_any_runner_noted_it(self, watched: ApiWarehouse) -> None:
        assert CliRunner().invoke(main, ["alerts", "list"]).output == "nothing is wrong\n"
        watched.run(FAILED)
        done = CliRunner().invoke(main, ["alerts", "list"])
        assert done.output.splitlines()[0] == "critical: daily_metrics failed"
        listed = json_of(CliRunner().invoke(main, ["alerts", "list", "--json"]).stdout)
        (alert,) = listed["alerts"]
        assert (alert["key"], alert["first_fired_at"]) == ("run:daily_metrics", None)


def json_of(text: str) -> Any:
    """The one object that a command printed."""
    return json.loads(text)
