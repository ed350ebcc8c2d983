"""pg_cron as the clock: what is scheduled, and what stands in the way."""

from __future__ import annotations

import json
import re
import select
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from click.testing import CliRunner
from compared import ComparedWarehouse
from cron_cluster import HOME, plain_warehouse, start_cron_cluster
from cron_jobs import LOGIN, MINUTE_SECONDS, TIDY, by_job, clocks, deploy, rows
from daemons import HandDaemon, deploy_to, log_of, set_taken, wait_until

from clusters import Cluster, stop_cluster
from runner.cli import main
from runner.schedule.cron_server import PgCronError
from runner.schedule.cron_status import status
from runner.schedule.pg_cron import install, remove
from warehouse.database import admin_dsn, connect
from warehouse.settings import Settings


@pytest.fixture(scope="module")
def cron() -> Iterator[Cluster]:
    cluster = start_cron_cluster()
    if isinstance(cluster, str):
        pytest.skip(cluster)
    yield cluster
    stop_cluster(cluster)


@pytest.fixture
def here(cron: Cluster) -> Iterator[Settings]:
    """The database in which pg_cron itself works."""
    settings = cron.settings_for(HOME)
    yield settings
    remove(settings)
    for table in ("jobs", "job_requests", "catalogue"):
        rows(settings, f"delete from metadata.{table}")


@pytest.fixture
def there(cron: Cluster) -> Iterator[Settings]:
    """Another database of the same server."""
    settings = cron.migrated_database()
    yield settings
    remove(settings)
    cron.drop_database(Cluster.name_of(settings))


@pytest.fixture
def plain(cron: Cluster) -> Iterator[Settings]:
    """Another database, of a login that is no superuser and was granted nothing of pg_cron."""
    settings = plain_warehouse(cron, LOGIN)
    yield settings
    remove(cron.settings_for(Cluster.name_of(settings)))
    cron.drop_database(Cluster.name_of(settings))
    for name in (HOME, "postgres"):
        cron.run(f"drop owned by {LOGIN}", name=name)
    cron.run(f"drop role {LOGIN}")


def grant_all(cron: Cluster) -> None:
    cron.run(
        f"grant pg_read_all_settings to {LOGIN}; grant usage on schema cron to {LOGIN}; "
        f"grant execute on function cron.schedule_in_database to {LOGIN}",
        name=HOME,
    )


@pytest.fixture(params=["here", "there"])
def timed(request: pytest.FixtureRequest) -> Settings:
    """Both."""
    settings: Settings = request.getfixturevalue(request.param)
    return settings


def entries(cron: Cluster) -> list[tuple[Any, ...]]:
    return rows(
        cron.settings_for(HOME),
        "select jobname, schedule, command, database, active from cron.job order by jobname",
    )


class TestInstalling:
    def test_each_job_asks_for_itself_in_its_own_database(
        self, cron: Cluster, timed: Settings
    ) -> None:
        deploy(timed, daily="*/15 * * * *", weekly_sums="0 5 * * sat-sun", live=None)
        done = install(timed)
        name = Cluster.name_of(timed)
        assert done.scheduled == ["daily", "forget-requests", "forget-runs", "weekly_sums"]
        assert entries(cron)[:2] == [
            (
                *(f"oversight {name} daily", "*/15 * * * *"),
                *("select metadata.request_due('daily')", name, True),
            ),
            (
                *(f"oversight {name} forget-requests", "17 3 * * *"),
                *("select metadata.forget_requests()", name, True),
            ),
        ]
        assert entries(cron)[2][3] == HOME
        assert entries(cron)[3][1:4] == (
            "0 5 * * sat,sun", "select metadata.request_due('weekly_sums')", name,
        )  # fmt: skip
        assert clocks(timed) == {"daily": "pg_cron", "weekly_sums": "pg_cron"}
        assert [job.problem for job in status(timed)] == [None] * 4

    def test_again_it_changes_nothing(self, cron: Cluster, timed: Settings) -> None:
        deploy(timed, daily="*/15 * * * *")
        install(timed)
        before = rows(cron.settings_for(HOME), "select * from cron.job order by jobid")
        done = install(timed)
        assert (done.scheduled, done.unscheduled) == ([], [])
        assert done.unchanged == ["daily", *TIDY]
        assert rows(cron.settings_for(HOME), "select * from cron.job order by jobid") == before

    def test_remove_leaves_nothing_of_ours_and_all_of_others(
        self, cron: Cluster, here: Settings, there: Settings
    ) -> None:
        rows(here, "select cron.schedule('oversight of the shop', '0 0 1 1 *', 'select 1')")
        deploy(here, daily="*/15 * * * *")
        deploy(there, daily="*/15 * * * *")
        install(here)
        install(there)
        assert remove(there) == ["daily", *TIDY]
        names = [name for name, *_ in entries(cron)]
        assert names == ["oversight cron_home daily", *(f"oversight cron_home {n}" for n in TIDY),
                         "oversight of the shop"]  # fmt: skip
        assert clocks(there) == {"daily": "runner"}
        assert clocks(here) == {"daily": "pg_cron"}
        remove(here)
        rows(here, "select cron.unschedule('oversight of the shop')")
        assert entries(cron) == []

    def test_a_redeployed_catalogue_is_seen_and_mended(
        self, cron: Cluster, timed: Settings
    ) -> None:
        deploy(timed, daily="*/15 * * * *", gone="0 * * * *", odd="0 0 1 * *")
        install(timed)
        deploy(timed, daily="*/5 * * * *", added="0 * * * *", odd="0 0 1 * mon")
        seen = by_job(timed)
        assert seen["daily"].cadence == "*/5 * * * *"
        assert seen["daily"].pg_cron_cadence == "*/15 * * * *"
        for job, text in {
            "daily": "declared otherwise since; run `oversight db pg-cron install` again",
            "gone": "nobody wants it",
            "added": "declared since the install, so the runner keeps its time",
            "odd": "declared since in a way that pg_cron can't keep",
        }.items():
            assert text in str(seen[job].problem)
        done = install(timed)
        assert done.scheduled == ["added", "daily"]
        assert done.unscheduled == ["gone", "odd"]
        assert list(done.kept) == ["odd"]
        assert clocks(timed) == {"daily": "pg_cron", "added": "pg_cron", "odd": "runner"}
        assert [job.problem for job in status(timed)] == [None] * 5

    def test_what_was_changed_by_hand_is_seen_and_mended(
        self, cron: Cluster, timed: Settings
    ) -> None:
        deploy(timed, off="0 * * * *", lost="0 * * * *", theirs="0 * * * *")
        install(timed)
        name = Cluster.name_of(timed)
        home = cron.settings_for(HOME)
        rows(home, f"update cron.job set active = false where jobname = 'oversight {name} off'")
        rows(home, f"select cron.unschedule('oversight {name} lost')")
        rows(timed, "update metadata.jobs set clock = 'runner' where job_name = 'theirs'")
        seen = by_job(timed)
        assert (seen["off"].is_active, seen["lost"].pg_cron_cadence) == (False, None)
        assert "switched off" in str(seen["off"].problem)
        assert "nobody asks for it" in str(seen["lost"].problem)
        assert "is not done" in str(seen["theirs"].problem)
        install(timed)
        assert [job.problem for job in status(timed)] == [None] * 5

    def test_a_failed_run_is_shown_with_what_pg_cron_says(
        self, cron: Cluster, timed: Settings
    ) -> None:
        deploy(timed, daily="0 * * * *")
        install(timed)
        rows(
            cron.settings_for(HOME),
            "insert into cron.job_run_details (jobid, username, status, return_message, start_time)"
            " select jobid, username, 'failed', 'connection failed', now() from cron.job "
            "where jobname like '% daily'",
        )
        problem = str(by_job(timed)["daily"].problem)
        assert "its last run there failed: connection failed" in problem
        assert "cron.use_background_workers = on" in problem

    def test_before_anything_is_installed_nothing_is_wrong(self, timed: Settings) -> None:
        deploy(timed, daily="0 * * * *")
        (job,) = status(timed)
        assert (job.job, job.clock, job.pg_cron_cadence, job.problem) == (
            "daily", "runner", None, None,
        )  # fmt: skip

    def test_a_clock_that_is_not_utc_is_refused(self, cron: Cluster, there: Settings) -> None:
        deploy(there, daily="0 * * * *")
        # What pg_cron 1.5 and newer have as a setting; for 1.4 it is any word.
        home = cron.settings_for(HOME)
        rows(home, "alter database cron_home set cron.timezone = 'Europe/Berlin'")
        try:
            with pytest.raises(
                PgCronError, match="keeps time in Europe/Berlin and cadences are in"
            ):
                install(there)
            assert clocks(there) == {"daily": "runner"}
            rows(home, "alter database cron_home set cron.timezone = 'GMT'")
            install(there)
        finally:
            rows(home, "alter database cron_home reset cron.timezone")


class TestPlainLogin:
    def test_it_needs_just_the_grants_that_the_errors_name(
        self, cron: Cluster, plain: Settings
    ) -> None:
        deploy(plain, daily="0 0 1 1 *")
        granted = []
        for _ in range(3):
            with pytest.raises(PgCronError) as error:
                install(plain)
            assert clocks(plain) == {"daily": "runner"}
            assert entries(cron) == []
            place, grant = re.findall(
                r"as superuser, in database (\w+): (grant .*)$", str(error.value)
            )[0]
            rows(cron.settings_for(place), grant)
            granted.append(grant.split(" to ")[0])
        assert granted == [
            "grant pg_read_all_settings",
            "grant usage on schema cron",
            "grant execute on function cron.schedule_in_database",
        ]
        assert install(plain).scheduled == ["daily", *TIDY]
        assert [job.problem for job in status(plain)] == [None] * 3

    def test_an_administrator_sees_and_mends_what_the_login_left(
        self, cron: Cluster, plain: Settings
    ) -> None:
        grant_all(cron)
        deploy(plain, daily="0 0 1 1 *")
        install(plain)
        administrator = cron.settings_for(Cluster.name_of(plain))
        assert "switched off or changed" in str(by_job(administrator)["daily"].problem)
        assert install(administrator).scheduled == ["daily", *TIDY]
        assert len(entries(cron)) == 3


@pytest.mark.parametrize("where", ["here", "there"])
def test_the_command_line_tells_a_person_and_a_program_the_same(
    where: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: Settings = request.getfixturevalue(where)
    monkeypatch.setenv("OVERSIGHT_DATABASE_URL", admin_dsn(settings))
    deploy(settings, daily="0 0 1 1 *", odd="0 0 1 * mon")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["db", "pg-cron", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert run("install") == (
        "scheduled: daily, forget-requests, forget-runs\n"
        "the runner keeps the time of odd: pg_cron would run '0 0 1 * mon' on each of these "
        "weekdays and on each of these days\n"
    )
    answer = json.loads(run("status", "--json"))
    assert answer["is_well"] is True
    assert [job["job"] for job in answer["jobs"]] == ["daily", "odd", *TIDY]
    assert answer["jobs"][0]["next_slot"].endswith("-01-01T00:00:00Z")
    lines = run("status").splitlines()
    assert lines[0].startswith("daily            declared 0 0 1 1 *; pg_cron 0 0 1 1 *; next 20")
    assert lines[1].startswith("odd              declared 0 0 1 * mon; not in pg_cron; next 20")
    assert json.loads(run("remove", "--json")) == {"unscheduled": ["daily", *TIDY]}
    assert run("remove") == "pg_cron held nothing of ours\n"


def test_a_minute_really_ticks(
    cron: Cluster, here: Settings, there: Settings, plain: Settings
) -> None:
    grant_all(cron)
    listeners = {}
    for settings in (here, there, plain):
        deploy(settings, daily="* * * * *")
        install(settings)
        listener = connect(settings, autocommit=True)
        with listener.cursor() as cursor:
            cursor.execute("listen oversight_requests")
        listeners[settings.database_url] = listener
    began = time.monotonic()
    for settings in (here, there, plain):
        listener = listeners[settings.database_url]
        while not listener.notifies:
            assert time.monotonic() - began < 3 * MINUTE_SECONDS, status(settings)
            select.select([listener], [], [], 1)
            listener.poll()
        heard = datetime.now(timezone.utc)
        ((request_id, slot, state),) = rows(
            settings,
            "select request_id, scheduled_for, status from metadata.job_requests "
            "order by request_id limit 1",
        )
        assert listener.notifies[0].payload == str(request_id)
        assert (slot.second, state) == (0, "pending")
        assert heard - slot < timedelta(minutes=3)
        listener.close()
        # Promised is a minute; what it took stands in the test's output.
        sys.stdout.write(f"{time.monotonic() - began:.1f} s, {heard - slot} after its slot\n")
        job = by_job(settings)["daily"]
        assert job.last_requested_slot == slot
        assert job.problem is None


def test_a_runner_does_what_pg_cron_asks_for_once_and_makes_no_slots_of_its_own(
    built: ComparedWarehouse,
) -> None:
    built.renew()
    deploy_to(built)
    long_ago = datetime.now(timezone.utc) - timedelta(days=1)
    set_taken(built, {"daily_metrics": long_ago, "weekly_partner_performance": long_ago})
    built.rows("update metadata.jobs set clock = 'pg_cron', since = now() - interval '2 hours'")
    before = len(log_of(built))
    with HandDaemon(built) as daemon:
        daemon.tick()
        daemon.finish()
        assert len(log_of(built)) == before
        for _ in range(2):
            built.rows("select metadata.request_due('weekly_partner_performance')")
            wait_until(lambda: is_done(built, daemon), 60)
            daemon.finish()
        before_removing = log_of(built)
        with pytest.raises(PgCronError, match="the runner keeps time again"):
            remove(built.settings)
        wait_until(lambda: has_own_slots(daemon), 15)
        daemon.finish()
    runs = [run for run in before_removing[before:] if run[2] != "missed"]
    ((slot, status_, run_id),) = built.rows(
        "select scheduled_for, status, run_id is not null from metadata.job_requests"
    )
    assert runs == [("weekly_partner_performance", slot, "success")]
    assert (slot.minute, status_, run_id) == (0, "done", True)
    assert ("daily_metrics", "success") in {
        (run[0], run[2]) for run in log_of(built)[len(before_removing) :]
    }


def is_done(built: ComparedWarehouse, daemon: HandDaemon) -> bool:
    daemon.tick()
    return built.rows("select status from metadata.job_requests") == [("done",)]


def has_own_slots(daemon: HandDaemon) -> bool:
    daemon.tick()
    return {job.clock for job in daemon.jobs} == {"runner"}
