"""The daemon: leads or stands by, finds out once a second what is due, and has it done.

Its own loop asks what is due, since APScheduler's sleeps until a time of the wall clock: set back
one hour, it stalls for one. APScheduler reads the cron lines and runs the work on its threads.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from types import FrameType

import psycopg2
import structlog
from psycopg2.extensions import connection as Connection

from runner.alerts.check import check_alerts
from runner.backfill.requests import revive
from runner.pull.access import scheduled_pulls
from runner.runs import spool
from runner.runs.ending import GRACE_SECONDS, abandon_dead
from runner.runs.log import LIVES
from runner.runs.warm_dbt import Dbt
from runner.schedule import requests
from runner.schedule.jobs import sync_jobs, taken_slots, wanted_jobs, write_missed, write_skipped
from runner.schedule.lanes import LANE_OF, THREADS, Lanes
from runner.schedule.leader import Leadership
from runner.schedule.requests import Request
from runner.schedule.slots import Due, Job, due
from runner.schedule.work import Slots, Work
from warehouse.catalogue import CatalogueError, deployed
from warehouse.database import connect
from warehouse.errors import OversightError
from warehouse.raw_tables import ensure_raw_tables
from warehouse.settings import Settings

TICK_SECONDS = 1.0
REAP_SECONDS = 5.0
ALERT_SECONDS = 30.0
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

    def tick(self) -> None:
        """Beat; as the leader also take over, clean up, and start what is due or asked for."""
        before = self.leadership.epoch
        now = self.leadership.beat()
        epoch = self.leadership.epoch
        if now is None or epoch is None:
            # What it still does goes on: each run is fenced by its own row.
            self._disconnect()
            return
        try:
            if self._connection is None or before != epoch:
                self._connection = self._take_over()
            self._hear(self._connection)
            self._reap(self._connection, epoch)
            if self._is_stale or self.lanes.has_failed.is_set():
                self._read_catalogue(self._connection)
            self._start_due(self._connection, now, epoch)
            self._start_requests(self._connection, epoch)
            self._look_for_alerts()
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
            self.leadership.beat()
            time.sleep(0.1)

    def _take_over(self) -> Connection:
        self._disconnect()
        connection = connect(self.settings, autocommit=True, application_name="oversight schedule")
        with connection.cursor() as cursor:
            cursor.execute(f"listen {requests.CHANNEL}; listen {_CATALOGUE}")
        spool.write_back(self.settings, connection)
        requests.put_back(connection, but=self.lanes.requests())
        # Runs of others may be connecting anew just now, after the same outage.
        self._next_reap = time.monotonic() + GRACE_SECONDS
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
        """Close the runs of processes that died; what they should have refreshed is done anew."""
        if time.monotonic() < self._next_reap:
            return
        self._next_reap = time.monotonic() + REAP_SECONDS
        marts = {job.name for job in self.jobs if job.kind == "refresh"}
        for dead in abandon_dead(connection, LIVES):
            log.warning("abandoned", run_id=dead.run_id, job=dead.job_name)
            # A run that was a second try already is not tried a third time.
            if dead.scheduled_for is not None and dead.job_name in marts:
                again = self._job_of("refresh", {dead.job_name: None}, epoch)
                self.lanes.submit("refresh", [dead.job_name], again)
        for backfill_id in revive(connection):
            log.info("backfill goes on", backfill_id=backfill_id)

    def _read_catalogue(self, connection: Connection) -> None:
        self.lanes.has_failed.clear()
        try:
            catalogue = deployed(connection)
        except CatalogueError as error:
            log.warning("no catalogue", error=str(error))
            return
        ensure_raw_tables(connection, catalogue.sources)
        pulls = scheduled_pulls(os.environ, catalogue)
        self.jobs = sync_jobs(connection, wanted_jobs(catalogue, pulls))
        self._taken = taken_slots(connection)
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
        self.lanes.submit(lane, list(slots), self._job_of(items[0].job.kind, slots, epoch))

    def _job_of(self, kind: str, slots: Slots, epoch: int) -> Callable[[], int]:
        if kind == "refresh":
            return partial(self.work.refresh, slots, list(slots), epoch=epoch)
        return partial(self.work.do, kind, slots, epoch=epoch)

    def _start_requests(self, connection: Connection, epoch: int) -> None:
        for group in requests.together(requests.pending(connection)):
            lane = LANE_OF[group[0].kind]
            if not self.lanes.has_room(lane):
                continue
            taken = [one for one in group if requests.take(connection, one, epoch=epoch)]
            if taken:
                names, function = self._asked(taken, epoch)
                self.lanes.submit(lane, names, function, taken)

    def _asked(self, group: list[Request], epoch: int) -> tuple[list[str], Callable[[], int]]:
        """The jobs that requests are, and what does them."""
        request, arguments = group[0], group[0].arguments
        if request.kind == "backfill":
            return [], partial(self.work.backfill, request, epoch=epoch)
        if request.kind != "refresh":
            name = f"{request.kind} {arguments.get('engine', '')}".strip()
            slots: Slots = {name: request.scheduled_for}
            return list(slots), partial(self.work.do, request.kind, slots, epoch=epoch)
        marts = [str(name) for one in group for name in one.arguments.get("marts", [])]
        if request.scheduled_for is not None:
            slots = {
                name: one.scheduled_for for one in group for name in one.arguments.get("marts", [])
            }
        else:
            slots = {" ".join(["refresh", *marts]): None}
        full = arguments.get("full") is True
        return list(slots), partial(self.work.refresh, slots, marts, epoch=epoch, full=full)

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
