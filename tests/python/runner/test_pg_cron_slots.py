"""pg_cron's lines and names, what a slot asks for, and a server without pg_cron."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone

import pytest
from cron_jobs import clocks, deploy, rows

from clusters import Cluster
from runner.schedule.cron_lines import CronLineError, to_pg_cron
from runner.schedule.cron_server import PgCronError, entry_name, entry_prefix
from runner.schedule.pg_cron import install, remove
from warehouse.database import connect
from warehouse.settings import Settings


class TestCronLines:
    @pytest.mark.parametrize(
        ("declared", "expected"),
        [
            ("*/15 * * * *", "*/15 * * * *"),
            ("0 3 * * fri-sun", "0 3 * * fri,sat,sun"),
            ("0 3 * * SUN,mon", "0 3 * * mon,sun"),
            ("5-59/10 8-18 1,15 jan-jun *", "5-59/10 8-18 1,15 jan-jun *"),
            ("0 0 31 2 *", "0 0 31 2 *"),
        ],
    )
    def test_a_line_of_the_same_slots(self, declared: str, expected: str) -> None:
        assert to_pg_cron(declared) == expected

    @pytest.mark.parametrize(
        "declared", ["0 0 1 * mon", "0 0 last * *", "5/15 * * * *", "0 0 2nd * *"]
    )
    def test_what_pg_cron_reads_otherwise_is_refused(self, declared: str) -> None:
        with pytest.raises(CronLineError, match="pg_cron"):
            to_pg_cron(declared)


class TestNames:
    def test_one_database_is_never_taken_for_another(self) -> None:
        assert entry_name("shop", "daily") == "oversight shop daily"
        names = ("shop", "shop_2", "shop two", '"shop', '"shop"', 'shop" two', "s" * 40, "s " * 20)
        for one, other in itertools.permutations(names, 2):
            assert not entry_name(one, "daily").startswith(entry_prefix(other)), (one, other)

    def test_long_names_stay_apart_within_what_pg_cron_keeps(self) -> None:
        long = "x" * 62
        names = {entry_name(long + a, long + b) for a in "12" for b in "12"}
        assert len(names) == 4
        assert all(len(name.encode()) <= 63 for name in names)
        assert len(entry_name('"' * 62, long).encode()) <= 63


class TestRequestDue:
    """What the entry in pg_cron calls, on every server."""

    @pytest.fixture
    def due(self, any_warehouse: Settings) -> Settings:
        rows(
            any_warehouse,
            "insert into metadata.jobs (job_name, kind, cadence, clock, since) values "
            "('daily_metrics', 'refresh', '* * * * *', 'pg_cron', now() - interval '1 day'), "
            "('pull shop', 'pull', '0 * * * *', 'pg_cron', now() - interval '1 day'), "
            "('nightly', 'nightly', '* * * * *', 'runner', now() - interval '1 day'), "
            "('weekly', 'weekly', '* * * * *', 'pg_cron', now() + interval '1 minute'), "
            "('rare', 'refresh', '0 0 31 2 *', 'pg_cron', now() - interval '1 day')",
        )
        return any_warehouse

    def test_it_asks_once_for_the_newest_slot(self, due: Settings) -> None:
        listener = connect(due, autocommit=True)
        with listener.cursor() as cursor:
            cursor.execute("listen oversight_requests")
        before = datetime.now(timezone.utc).replace(second=0, microsecond=0)
        first, again = (rows(due, "select metadata.request_due('daily_metrics')") for _ in "12")
        after = datetime.now(timezone.utc).replace(second=0, microsecond=0)
        ((kind, arguments, slot, key, by),) = rows(
            due,
            "select kind, arguments, scheduled_for, idempotency_key, requested_by "
            "from metadata.job_requests order by request_id limit 1",
        )
        assert before <= slot <= after
        assert (kind, arguments, by) == ("refresh", {"marts": ["daily_metrics"]}, "pg_cron")
        assert key == f"pg_cron daily_metrics {slot.astimezone(timezone.utc):%Y-%m-%dT%H:%MZ}"
        if before == after:
            assert again == [(None,)]
        listener.poll()
        assert listener.notifies[0].payload == str(first[0][0])
        listener.close()

    def test_late_it_still_names_the_slot_that_was_due(self, due: Settings) -> None:
        rows(due, "select metadata.request_due('pull shop')")
        ((arguments, slot),) = rows(
            due, "select arguments, scheduled_for from metadata.job_requests"
        )
        assert arguments == {"engine": "shop"}
        assert slot.minute == slot.second == 0
        assert timedelta() <= datetime.now(timezone.utc) - slot < timedelta(hours=1, seconds=5)

    @pytest.mark.parametrize("job", ["nightly", "weekly", "no_such_job"])
    def test_nothing_is_asked_for_what_another_keeps_or_was_not_due_or_is_gone(
        self, due: Settings, job: str
    ) -> None:
        assert rows(due, "select metadata.request_due(%s)", (job,)) == [(None,)]
        assert rows(due, "select count(*) from metadata.job_requests") == [(0,)]

    def test_a_time_that_is_no_slot_is_an_error_that_says_where_to_look(
        self, due: Settings
    ) -> None:
        with pytest.raises(Exception, match=r"no slot in the last hour(.|\n)*cron\.timezone"):
            rows(due, "select metadata.request_due('rare')")

    def test_while_no_runner_takes_them_one_request_waits_and_each_slot_has_its_row(
        self, due: Settings
    ) -> None:
        rows(
            due,
            "update metadata.jobs set since = date_trunc('minute', now()) - interval '6 minutes'",
        )
        for minutes, state in ((5, "done"), (4, "running"), (3, "pending"), (1, "pending")):
            rows(
                due,
                "insert into metadata.job_requests (kind, status, finished_at, scheduled_for, "
                "idempotency_key, requested_by) select 'refresh', %s, "
                "case when %s = 'done' then now() end, slot, "
                "metadata.pg_cron_key('daily_metrics', slot), 'pg_cron' from (select "
                "date_trunc('minute', now()) - %s * interval '1 minute' as slot) as s",
                (state, state, minutes),
            )
        rows(
            due,
            "insert into metadata.refresh_log (job_name, scheduled_for, status, finished_at) "
            "select 'daily_metrics', scheduled_for, 'success', now() from metadata.job_requests "
            "where status = 'done'",
        )
        ((made,),) = rows(due, "select metadata.request_due('daily_metrics')")
        waiting = rows(due, "select request_id from metadata.job_requests where status = 'pending'")
        assert waiting == [(made,)]
        behind = dict(
            rows(
                due,
                "select round(extract(epoch from (select scheduled_for from metadata.job_requests "
                "where request_id = %s) - scheduled_for) / 60)::integer, status "
                "from metadata.refresh_log where job_name = 'daily_metrics'",
                (made,),
            )
        )
        late = max(behind) - 5
        assert behind == {
            5 + late: "success",
            **dict.fromkeys((minutes for minutes in range(1, 4 + late)), "missed"),
        }

    def test_a_slot_in_the_future_hides_none_that_was_missed(self, due: Settings) -> None:
        rows(
            due,
            "update metadata.jobs set since = date_trunc('minute', now()) - interval '6 minutes'",
        )
        rows(
            due,
            "insert into metadata.refresh_log (job_name, scheduled_for, status, finished_at) "
            "values ('daily_metrics', now() + interval '10 years', 'success', now())",
        )
        rows(due, "select metadata.request_due('daily_metrics')")
        ((missed,),) = rows(
            due, "select count(*) from metadata.refresh_log where status = 'missed'"
        )
        assert missed in (5, 6)

    def test_old_requests_are_forgotten_and_others_kept(self, due: Settings) -> None:
        rows(
            due,
            "insert into metadata.job_requests (kind, idempotency_key, status, finished_at) values "
            "('refresh', 'pg_cron a 1', 'done', now() - interval '31 days'), "
            "('refresh', 'pg_cron a 2', 'done', now() - interval '29 days'), "
            "('refresh', 'pg_cron a 3', 'pending', null), "
            "('refresh', 'by hand', 'done', now() - interval '31 days')",
        )
        assert rows(due, "select metadata.forget_requests()") == [(1,)]
        left = rows(due, "select idempotency_key from metadata.job_requests order by 1")
        assert [key for (key,) in left] == ["by hand", "pg_cron a 2", "pg_cron a 3"]


class TestWithoutPgCron:
    def test_the_error_says_what_to_install_and_to_set(self, warehouse: Settings) -> None:
        deploy(warehouse, daily="0 * * * *")
        name = Cluster.name_of(warehouse)
        with pytest.raises(PgCronError) as error:
            install(warehouse)
        message = str(error.value)
        assert f"there is no pg_cron in database {name}; install its package" in message
        assert "postgresql-18-cron" in message
        assert f"cron.database_name = '{name}'" in message
        assert "create extension pg_cron; grant usage on schema cron to" in message
        assert clocks(warehouse) == {"daily": "runner"}

    def test_the_embedded_server_says_that_the_runner_keeps_time(
        self, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deploy(warehouse, daily="0 * * * *")
        monkeypatch.setattr(Settings, "is_embedded", True)
        with pytest.raises(PgCronError, match="the embedded server has no pg_cron"):
            install(warehouse)

    def test_remove_gives_the_time_back_to_the_runner_all_the_same(
        self, warehouse: Settings
    ) -> None:
        rows(
            warehouse,
            "insert into metadata.jobs (job_name, kind, cadence, clock) "
            "values ('daily', 'refresh', '0 * * * *', 'pg_cron')",
        )
        with pytest.raises(PgCronError, match="the runner keeps time again; there is no pg_cron"):
            remove(warehouse)
        assert clocks(warehouse) == {"daily": "runner"}

    def test_nothing_deployed_is_an_error_that_says_so(self, warehouse: Settings) -> None:
        with pytest.raises(Exception, match="run `oversight deploy`"):
            install(warehouse)
