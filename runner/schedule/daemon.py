"""The daemon: leads or stands by, finds out once a second what is due, and has it done.

Its own loop asks what is due, since APScheduler's sleeps until a time of the wall clock: set back
one hour, it stalls for one. APScheduler reads the cron lines.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import suppress
from datetime import datetime
from types import FrameType

import psycopg2
import structlog
from psycopg2.extensions import connection as Connection

from runner.alerts.check import check_alerts
from runner.backfill.requests import revive
from runner.pull.access import scheduled_pulls
from runner.runs import spool
from runner.runs.ending import GRACE_SECONDS, abandon_dead
from runner.runs.opening import LIVES
from runner.runs.warm_dbt import Dbt
from runner.schedule import requests
from runner.schedule.jobs import (
    stopped_jobs,
    sync_jobs,
    taken_slots,
    wanted_jobs,
    write_missed,
    write_skipped,
)
from runner.schedule.lanes import LANE_OF, THREADS, Lanes
from runner.schedule.leader import Leadership
from runner.schedule.slots import Due, Job, due
from runner.schedule.work import Slots, Work
from warehouse.catalogue import Catalogue, CatalogueError, deployed
from warehouse.database import connect
from warehouse.errors import OversightError
from warehouse.raw_tables import RawTableError, ensure_raw_tables
from warehouse.settings import Settings

TICK_SECONDS = 1.0
REAP_SECONDS = 5.0
ALERT_SECONDS = 30.0
RAW_TABLES_SECONDS = 60.0
STOP_SECONDS = 30.0
_CATALOGUE = "oversight_catalogue"

log = structlog.get_logger("oversight.schedule")


class Daemon:
    """One runner. `tick` does what is due now and returns at once; threads do the work."""

    def __init__(self, settings: Settings, dbt: Dbt) -> None:
        self.settings = settings
        self.leadership = Leadership(settings)
        self.work = Work(settings, dbt)
        self.lanes = Lanes(settings)
        self.jobs: list[Job] = []
        self._taken: dict[str, datetime] = {}
        self._is_stale = True
        self._connection: Connection | None = None
        self._next_reap = 0.0
        self._next_alerts = 0.0
        self._next_raw_tables = 0.0
        self._catalogue: Catalogue | None = None
        """A deployed catalogue whose raw tables may have to be made."""
        self._has_to_resume = False

    def tick(self) -> None:
        """Beat; as the leader also take over, clean up, and start what is due or asked for."""
        try:
            # First, and by standbys too: what keeps the rest from being done is to be told.
            self._look_for_alerts()
            before = self.leadership.epoch
            now = self.leadership.beat()
            epoch = self.leadership.epoch
            if now is None or epoch is None:
                # What it still does goes on: each run is fenced by its own row.
                self._disconnect()
                return
            if before != epoch:
                # Runs of others may be connecting anew just now, after the same outage.
                self._next_reap = time.monotonic() + GRACE_SECONDS
                self._has_to_resume = True
            if self._connection is None or before != epoch:
                self._connection = self._take_over()
            self._hear(self._connection)
            self._reap(self._connection, epoch)
            if self._is_stale or self.lanes.has_failed.is_set():
                self._read_catalogue(self._connection, now)
            self._extend_raw_tables(self._connection)
            self._start_due(self._connection, now, epoch)
            self._resume(self._connection, epoch)
            self._start_requests(self._connection, epoch)
        except (psycopg2.Error, OversightError) as error:
            log.warning("nothing started", error=str(error).strip())
            self._disconnect()
        except Exception:
            # A defect, and the next second may do better; a runner that ends helps nobody.
            log.exception("nothing started")
            self._disconnect()

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than until somebody asks for something."""
        if self._connection is None:
            time.sleep(seconds)
            return
        with suppress(OSError, ValueError, psycopg2.Error):
            select.select([self._connection], [], [], seconds)

    def stop(self) -> None:
        """Finish refreshes, cancel what takes longer, then let another lead."""
        self._wait_for("refresh")
        self.work.cancel("the runner was stopped")
        self._wait_for(*(lane for lane in THREADS if lane != "alerts"))
        self._disconnect()
        self.leadership.resign()
        self.lanes.close()

    def _wait_for(self, *lanes: str) -> None:
        """Go on leading while what is under way ends, so that nobody closes it as abandoned."""
        deadline = time.monotonic() + STOP_SECONDS
        while not self.lanes.is_idle(*lanes) and time.monotonic() < deadline:
            if self.leadership.epoch is not None:
                self.leadership.beat()
            time.sleep(0.1)

    def _take_over(self) -> Connection:
        self._disconnect()
        connection = connect(self.settings, autocommit=True, application_name="oversight schedule")
        with connection.cursor() as cursor:
            # Nothing that a tick does may keep it from beating for long.
            cursor.execute("set lock_timeout = '2s'; set statement_timeout = '10s'")
            cursor.execute(f"listen {requests.CHANNEL}; listen {_CATALOGUE}")
        spool.write_back(self.settings, connection)
        requests.put_back(connection, but=self.lanes.requests())
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg2.Error):
                self._connection.close()
        self._connection = None
        self._is_stale = True

    def _hear(self, connection: Connection) -> None:
        connection.poll()
        for notification in connection.notifies:
            self._is_stale |= notification.channel == _CATALOGUE
        connection.notifies.clear()

    def _reap(self, connection: Connection, epoch: int) -> None:
        """Close the runs of processes that died; what they should have done is done anew."""
        if time.monotonic() < self._next_reap:
            return
        self._next_reap = time.monotonic() + REAP_SECONDS
        abandoned = abandon_dead(connection, LIVES)
        for dead in abandoned:
            log.warning("abandoned", run_id=dead.run_id, job=dead.job_name)
        # A run that was a second try already is not tried a third time.
        self._do_again({dead.job_name for dead in abandoned if dead.scheduled_for}, epoch)
        for backfill_id in revive(connection):
            log.info("backfill goes on", backfill_id=backfill_id)

    def _resume(self, connection: Connection, epoch: int) -> None:
        """Once after taking over: do anew what the last leader was stopped in the middle of."""
        if self._has_to_resume and not self._is_stale:
            self._has_to_resume = False
            self._do_again(set(stopped_jobs(connection)), epoch)

    def _do_again(self, names: set[str], epoch: int) -> None:
        """Runs without a slot, of jobs that are not under way; marts together."""
        jobs = [
            job
            for job in self.jobs
            if job.name in names and not self.lanes.is_running(LANE_OF[job.kind], job.name)
        ]
        marts: Slots = {job.name: None for job in jobs if job.kind == "refresh"}
        if marts:
            self.lanes.submit("refresh", list(marts), self.work.of_job("refresh", marts, epoch))
        for job in jobs:
            if job.kind != "refresh":
                again = self.work.of_job(job.kind, {job.name: None}, epoch)
                self.lanes.submit(LANE_OF[job.kind], [job.name], again)

    def _extend_raw_tables(self, connection: Connection) -> None:
        """What is declared anew gets its columns; when it can't, the jobs go on all the same."""
        if self._catalogue is None or time.monotonic() < self._next_raw_tables:
            return
        try:
            ensure_raw_tables(connection, self._catalogue.sources)
            self._catalogue = None
        except (psycopg2.errors.LockNotAvailable, RawTableError) as error:
            log.error("raw tables not extended", error=str(error).strip())
            self._next_raw_tables = time.monotonic() + RAW_TABLES_SECONDS

    def _read_catalogue(self, connection: Connection, now: datetime) -> None:
        self.lanes.has_failed.clear()
        try:
            catalogue = deployed(connection)
        except CatalogueError as error:
            log.warning("no catalogue", error=str(error))
            return
        self._catalogue = catalogue
        pulls = scheduled_pulls(os.environ, catalogue)
        self.jobs = sync_jobs(connection, wanted_jobs(catalogue, pulls))
        self._taken = taken_slots(connection, now)
        self._is_stale = False
        log.info("jobs", **{job.name.replace(" ", "_"): job.cadence for job in self.jobs})

    def _start_due(self, connection: Connection, now: datetime, epoch: int) -> None:
        own = [job for job in self.jobs if job.clock == "runner"]
        refreshes = []
        for item in due(own, self._taken, now):
            lane = LANE_OF[item.job.kind]
            if self.lanes.is_running(lane, item.job.name):
                reason = "its last run took too long"
                write_missed(connection, [item], epoch=epoch, reason=reason)
                write_skipped(connection, item, epoch=epoch)
                self._taken[item.job.name] = item.slot
            elif not self.lanes.has_room(lane):
                continue
            elif lane == "refresh":
                refreshes.append(item)
            else:
                self._start(connection, lane, [item], epoch)
        if refreshes:
            self._start(connection, "refresh", refreshes, epoch)

    def _start(self, connection: Connection, lane: str, items: list[Due], epoch: int) -> None:
        reason = "no runner ran, or it was busy"
        write_missed(connection, items, epoch=epoch, reason=reason)
        slots: Slots = {item.job.name: item.slot for item in items}
        for item in items:
            self._taken[item.job.name] = item.slot
        self.lanes.submit(lane, list(slots), self.work.of_job(items[0].job.kind, slots, epoch))

    def _start_requests(self, connection: Connection, epoch: int) -> None:
        for group in requests.together(requests.pending(connection)):
            lane = LANE_OF[group[0].kind]
            if not self.lanes.has_room(lane):
                continue
            taken = [one for one in group if requests.take(connection, one, epoch=epoch)]
            if taken:
                names, function = self.work.of_requests(taken, epoch)
                self.lanes.submit(lane, names, function, taken)

    def _look_for_alerts(self) -> None:
        """On a thread of its own, and never a second time while a sink is waited for."""
        if time.monotonic() >= self._next_alerts and self.lanes.has_room("alerts"):
            self._next_alerts = time.monotonic() + ALERT_SECONDS
            self.lanes.submit("alerts", [], self._check_alerts)

    def _check_alerts(self) -> int:
        check_alerts(self.settings)
        return 0


def schedule(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM; a refresh under way is finished first, other work cancelled."""
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with Dbt(settings) as dbt:
        # A standby, too: it has to be quick when its turn comes.
        threading.Thread(target=dbt.warm_up, name="warm-up", daemon=True).start()
        daemon = Daemon(settings, dbt)
        try:
            while not stop.is_set():
                daemon.tick()
                daemon.wait(TICK_SECONDS)
        finally:
            log.info("stopping")
            daemon.stop()
