"""Freshness, SLA share and overdue jobs as the database works them out, exact at every edge."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from api_warehouse import DAILY, WEEKLY
from apscheduler.triggers.cron import CronTrigger
from psycopg2.extensions import connection as Connection

from warehouse import database
from warehouse.declared import Catalogue
from warehouse.settings import Settings

QUARTERLY = replace(DAILY, cadence="*/15 * * * *", freshness_sla_seconds=900)
LIVE = replace(WEEKLY, name="live_view", path="live-view", cadence=None)


class Moment:
    """One open transaction, in which now() stands still: an edge can be met to the microsecond."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def run(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description is not None else []

    def one(self, statement: str, *parameters: object) -> tuple[Any, ...]:
        (row,) = self.run(statement, *parameters)
        return row

    def job(self, name: str, cadence: str, since: str) -> None:
        self.run(
            "insert into metadata.jobs (job_name, kind, cadence, since)"
            " values (%s, 'refresh', %s, now() - %s::interval)",
            name,
            cadence,
            since,
        )

    def log(
        self,
        slot: str | None,
        started: str,
        finished: str,
        status: str = "success",
        *,
        job: str = "daily_metrics",
        models: str = "{}",
    ) -> None:
        """A run; all times are intervals before now()."""
        self.run(
            "insert into metadata.refresh_log"
            " (job_name, scheduled_for, started_at, finished_at, status, models) values (%s,"
            " now() - %s::interval, now() - %s::interval, now() - %s::interval, %s, %s)",
            job,
            slot,
            started,
            finished,
            status,
            models,
        )


@pytest.fixture
def moment(warehouse: Settings) -> Iterator[Moment]:
    """Two marts and a view are deployed; nothing is scheduled and nothing has run."""
    catalogue = Catalogue(sources=(), feeds=(), marts=(QUARTERLY, WEEKLY, LIVE))
    connection = database.connect(warehouse, role="oversight_owner")
    here = Moment(connection)
    here.run(
        "insert into metadata.catalogue (content_hash, content) values ('h', %s)",
        catalogue.to_json(),
    )
    yield here
    connection.close()


class TestStatus:
    def test_a_mart_without_data_is_never_and_a_live_view_is_no_mart_to_refresh(
        self, moment: Moment
    ) -> None:
        assert moment.run(
            "select mart, organization_id, status, late_after from metadata.mart_status order by 1"
        ) == [
            ("daily_metrics", None, "never", None),
            ("weekly_partner_performance", None, "never", None),
        ]

    @pytest.mark.parametrize(
        ("waits", "held", "stale", "status"),
        [
            (None, None, None, "fresh"),
            ("900 s", None, None, "fresh"),
            ("900.000001 s", None, None, "late"),
            (None, "901 s", None, "late"),
            ("10 s", "901 s", None, "late"),
            ("10 s", None, "0 s", "fresh"),
            ("10 s", None, "0.000001 s", "late"),
        ],
    )
    def test_late_begins_right_after_the_sla_or_the_silence(
        self,
        moment: Moment,
        waits: str | None,
        held: str | None,
        stale: str | None,
        status: str,
    ) -> None:
        moment.run(
            "insert into metadata.data_versions"
            " (model, organization_id, last_refresh_at, data_through, stale_after) values"
            " ('daily_metrics', 'a', now(), now() - interval '90 s', now() - %s::interval)",
            stale,
        )
        if waits:
            (batch,) = moment.one(
                "insert into metadata.batches (engine, status, path) values ('e', 'landed', '/')"
                " returning batch_id"
            )
            moment.run(
                "insert into metadata.waiting_batches values"
                " ('daily_metrics', 'a', %s, now() - %s::interval)",
                batch,
                waits,
            )
        if held:
            moment.run(
                "insert into metadata.held_keys values"
                " ('daily_metrics', 'a', '{}', now() - %s::interval)",
                held,
            )
        found = moment.one(
            "select status, lag_seconds, sla_seconds, waiting_batches from metadata.mart_status"
            " where mart = 'daily_metrics'"
        )
        assert found == (status, 90, 900, 1 if waits else 0)

    def test_an_organization_whose_first_batch_waits_is_there_before_its_first_row(
        self, moment: Moment
    ) -> None:
        (batch,) = moment.one(
            "insert into metadata.batches (engine, status, path) values ('e', 'landed', '/')"
            " returning batch_id"
        )
        moment.run(
            "insert into metadata.waiting_batches values ('daily_metrics', 'new', %s, now())", batch
        )
        assert moment.one(
            "select organization_id, status, late_after = now() + interval '900 s'"
            " from metadata.mart_status where mart = 'daily_metrics'"
        ) == ("new", "never", True)

    def test_readers_get_none_of_it(self, warehouse: Settings) -> None:
        connection = database.connect(warehouse, autocommit=True)
        with connection, connection.cursor() as cursor:
            for name in ("mart_status", "sla_report", "overdue_jobs", "alert_conditions", "alerts"):
                for role in ("oversight_reader", "oversight_analyst", "oversight_api"):
                    cursor.execute(
                        "select has_table_privilege(%s, %s, 'select')", (role, f"metadata.{name}")
                    )
                    assert cursor.fetchone() == (False,), (role, name)
        connection.close()


def test_the_owner_may_ask_on_either_version(any_warehouse: Settings) -> None:
    connection = database.connect(any_warehouse, role="oversight_owner")
    moment = Moment(connection)
    moment.job("nightly", "0 2 * * *", "40 days")
    marts = Catalogue(sources=(), feeds=(), marts=(QUARTERLY,)).to_json()
    moment.run("insert into metadata.catalogue (content_hash, content) values ('h', %s)", marts)
    for name, rows in (("mart_status", 1), ("sla_report", 1), ("overdue_jobs", 1)):
        assert len(moment.run(f"select * from metadata.{name}")) == rows
    assert moment.run("select key from metadata.alert_conditions order by 1") == [
        ("dead-man:nightly",), ("leader",),
    ]  # fmt: skip
    connection.close()


REPORT = "select intervals, met, missed, share, worst_lag_seconds from metadata.sla_report"


class TestSlaReport:
    def test_nothing_due_is_no_share(self, moment: Moment) -> None:
        assert moment.one(f"{REPORT} where mart = 'daily_metrics'") == (0, 0, 0, None, None)
        assert moment.run("select mart, goal from metadata.sla_report order by 1") == [
            ("daily_metrics", Decimal("0.99")),
            ("weekly_partner_performance", Decimal("0.99")),
        ]

    @pytest.mark.parametrize(
        ("finished", "expected"),
        [("1100 s", (1, 1, 0)), ("1099.999999 s", (1, 0, 1))],
        ids=["in the last microsecond", "a microsecond too late"],
    )
    def test_a_slot_is_met_to_the_microsecond(
        self, moment: Moment, finished: str, expected: tuple[int, ...]
    ) -> None:
        moment.log("2000 s", "1990 s", finished)
        assert moment.one(f"{REPORT} where mart = 'daily_metrics'")[:3] == expected

    def test_a_slot_inside_its_sla_does_not_count_yet(self, moment: Moment) -> None:
        moment.log("900 s", "890 s", "880 s")
        assert moment.one(f"{REPORT} where mart = 'daily_metrics'")[0] == 0
        moment.log("900.000001 s", "890 s", "880 s")
        assert moment.one(f"{REPORT} where mart = 'daily_metrics'")[:3] == (1, 1, 0)

    @pytest.mark.parametrize(
        "status", ["failed", "missed", "skipped_overlap", "abandoned", "cancelled"]
    )
    def test_only_success_meets(self, moment: Moment, status: str) -> None:
        moment.log("2000 s", "1990 s", "1980 s", status)
        assert moment.one(f"{REPORT} where mart = 'daily_metrics'") == (1, 0, 1, 0, 2000)

    @pytest.mark.parametrize("job", ["manual", "refresh", "refresh daily_metrics"])
    def test_any_run_that_holds_the_mart_meets(self, moment: Moment, job: str) -> None:
        moment.log("2000 s", "1990 s", "1980 s", "failed")
        moment.log(None, "1900 s", "1800 s", job=job, models="{fact_spend,daily_metrics}")
        assert moment.one(f"{REPORT} where mart = 'daily_metrics'") == (1, 1, 0, 1, 200)

    def test_a_run_that_began_before_the_slot_does_not_meet_it(self, moment: Moment) -> None:
        """What landed between its start and the slot may not be in it."""
        moment.log("2900 s", "2890 s", "1990 s")
        moment.log("2000 s", "2000 s", "2000 s", "skipped_overlap")
        assert moment.one(f"{REPORT} where mart = 'daily_metrics'")[:3] == (2, 0, 2)

    def test_a_runner_whose_clock_is_ahead_still_meets_its_own_slot(self, moment: Moment) -> None:
        moment.log("2000 s", "2000.3 s", "1990 s")
        assert moment.one(f"{REPORT} where mart = 'daily_metrics'")[:3] == (1, 1, 0)

    def test_slots_that_nobody_logged_are_missed(self, moment: Moment) -> None:
        moment.job("daily_metrics", "*/15 * * * *", "10 hours")
        (count,) = moment.one(
            "select count(*) from generate_series("
            "date_trunc('hour', now()) - interval '11 hours', now() - interval '900.000001 s',"
            " interval '15 minutes') as s (slot) where slot >= now() - interval '10 hours'"
        )
        found = moment.one(f"{REPORT} where mart = 'daily_metrics'")
        assert found[:4] == (count, 0, count, 0)
        assert 39 <= count <= 40

    def test_a_logged_slot_is_not_counted_twice_and_others_jobs_are_not_counted(
        self, moment: Moment
    ) -> None:
        moment.job("daily_metrics", "*/15 * * * *", "2 hours")
        moment.job("nightly", "*/15 * * * *", "2 hours")
        before = moment.one(f"{REPORT} where mart = 'daily_metrics'")[0]
        moment.run(
            "insert into metadata.refresh_log"
            " (job_name, scheduled_for, started_at, finished_at, status)"
            " select 'daily_metrics', slot, slot, slot + interval '30 s', 'success'"
            " from metadata.job_slots where job_name = 'daily_metrics'"
        )
        intervals, met, missed, share, worst = moment.one(f"{REPORT} where mart = 'daily_metrics'")
        assert (intervals, met, missed, share, worst) == (before, before, 0, 1, 30)
        assert before >= 7

    def test_the_share_has_all_its_digits(self, moment: Moment) -> None:
        for number in range(3):
            moment.log(f"{2000 + number} s", "1990 s", "1980 s", "missed" if number else "success")
        moment.run("update metadata.jobs set since = now()")
        assert moment.one(f"{REPORT} where mart = 'daily_metrics'")[:3] == (3, 3, 0)
        for number in range(3):
            moment.log(f"{1100 + number} s", "1 s", "1 s", "missed")
        share = moment.one(f"{REPORT} where mart = 'daily_metrics'")[3]
        assert share == Decimal("0.5")

    def test_slots_older_than_30_days_are_forgotten(self, moment: Moment) -> None:
        moment.log("30 days 1 s", "30 days", "29 days", "missed")
        moment.log("30 days", "30 days", "29 days", "missed")
        assert moment.one(f"{REPORT} where mart = 'daily_metrics'")[0] == 1


class TestOverdue:
    OVERDUE = "select job_name, slots, overdue_since from metadata.overdue_jobs"

    def test_a_job_that_never_ran_is_overdue_after_its_grace(self, moment: Moment) -> None:
        moment.job("daily_metrics", "* * * * *", "30 minutes")
        ((name, slots, since),) = moment.run(self.OVERDUE)
        assert name == "daily_metrics"
        assert slots in (15, 16)
        (now,) = moment.one("select now()")
        assert now - timedelta(minutes=30) <= since < now - timedelta(minutes=29)

    def test_a_job_that_never_ran_stays_overdue_however_long_ago_its_slot_was(
        self, moment: Moment
    ) -> None:
        (cadence,) = moment.one(
            "select to_char(now() at time zone 'UTC' - interval '3 days', 'MI HH24 DD MM *')"
        )
        moment.job("rare", cadence, "10 days")
        assert [row[:2] for row in moment.run(self.OVERDUE)] == [("rare", 1)]

    def test_a_slot_in_the_future_silences_nothing(self, moment: Moment) -> None:
        moment.job("daily_metrics", "0 * * * *", "5 days")
        moment.log("4 days", "4 days", "4 days")
        (before,) = moment.run(self.OVERDUE)
        assert before[1] > 90
        moment.log("-10 years", "1 hour", "1 hour")
        assert moment.run(self.OVERDUE) == [before]

    def test_within_the_grace_and_before_since_nothing_is(self, moment: Moment) -> None:
        moment.job("daily_metrics", "* * * * *", "14 minutes")
        moment.job("nightly", "* * * * *", "59 minutes")
        assert moment.run(self.OVERDUE) == []

    @pytest.mark.parametrize("status", ["missed", "failed", "skipped_overlap"])
    def test_a_row_of_any_state_ends_it(self, moment: Moment, status: str) -> None:
        moment.job("daily_metrics", "0 * * * *", "90 minutes")
        assert len(moment.run(self.OVERDUE)) == 1
        moment.run(
            "insert into metadata.refresh_log"
            " (job_name, scheduled_for, finished_at, status)"
            " select 'daily_metrics', slot, slot, %s from metadata.job_slots",
            status,
        )
        assert moment.run(self.OVERDUE) == []

    def test_the_log_of_another_job_does_not_count(self, moment: Moment) -> None:
        moment.job("daily_metrics", "* * * * *", "30 minutes")
        moment.run(
            "insert into metadata.refresh_log (job_name, scheduled_for, finished_at, status)"
            " select 'another', slot, slot, 'success' from metadata.job_slots"
        )
        assert len(moment.run(self.OVERDUE)) == 1


LINES = [
    "* * * * *",
    "*/15 * * * *",
    "0 * * * *",
    "7,37 */5 * * *",
    "5-50/13 3-20/4 * * *",
    "10/25 1 * * *",
    "0 2 * * mon",
    "30 4 1,15 * *",
    "0 0 last * *",
    "0 6 * feb-apr mon-fri",
    "0 6 29 feb *",
    "0 12 */10 1,3,dec sun,wed",
    "59 23 31 * *",
    "0/1 9 * * TUE",
]


def slots_of(cadence: str, first: datetime, last: datetime) -> list[datetime]:
    trigger = CronTrigger.from_crontab(cadence, timezone=timezone.utc)
    found: list[datetime] = []
    due = trigger.get_next_fire_time(None, first)
    while due is not None and due <= last:
        found.append(due)
        due = trigger.get_next_fire_time(due, due + timedelta(microseconds=1))
    return found


def random_line(chance: random.Random) -> str:
    def field(low: int, high: int) -> str:
        first, last = sorted(chance.sample(range(low, high + 1), 2))
        step = chance.randint(1, last - first)
        return chance.choice(["*", str(first), f"{first}-{last}", f"{first}-{last}/{step}",
                              f"{first},{last}", f"*/{step}", f"{first}/{step}"])  # fmt: skip

    days = chance.choice(["*", "mon", "sat,sun", "tue-fri"])
    return f"{chance.randint(0, 59)} {field(0, 23)} {field(1, 31)} {field(1, 12)} {days}"


def test_slots_are_those_that_apscheduler_fires(any_warehouse: Settings) -> None:
    """Two readings of a cron line must agree, or a job is due here and not there."""
    connection = database.connect(any_warehouse)
    moment = Moment(connection)
    chance = random.Random(3)
    compared = 0
    for line in LINES + [random_line(chance) for _ in range(60)]:
        dense = line.split()[:2].count("*") > 0 or line == "*/15 * * * *"
        first = datetime(2026, 2, 27, 12, 34, tzinfo=timezone.utc)
        last = first + (timedelta(days=3) if dense else timedelta(days=400))
        found = moment.run("select metadata.cron_slots(%s, %s, %s) order by 1", line, first, last)
        expected = slots_of(line, first, last)
        assert [slot for (slot,) in found] == expected, line
        compared += len(expected)
    connection.close()
    assert compared > 10_000
