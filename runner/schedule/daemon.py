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
from datetime import datetime, timezone
from types import FrameType

import psycopg2
import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from psycopg2.extensions import connection as Connection

from runner.backfill.requests import revive
from runner.pull.access import scheduled_pulls
from runner.runs import spool
from runner.runs.ending import GRACE_SECONDS, abandon_dead
from runner.runs.log import LIVES
from runner.runs.warm_dbt import Dbt
from runner.schedule import requests
from runner.schedule.jobs import sync_jobs, taken_slots, wanted_jobs, write_missed, write_skipped
from runner.schedule.leader import Leadership
from runner.schedule.requests import Request
from runner.schedule.slots import Due, Job, due
from runner.schedule.work import NOT_DONE, Slots, Work
from warehouse.catalogue import CatalogueError, deployed
from warehouse.database import connect
from warehouse.errors import OversightError
from warehouse.raw_tables import ensure_raw_tables
from warehouse.settings import Settings

TICK_SECONDS = 1.0
REAP_SECONDS = 5.0
STOP_SECONDS = 30.0
THREADS = {"refresh": 2, "pull": 1, "upkeep": 1, "backfill": 1}
"""Two refreshes at one time, so that a mart that takes long holds up no other."""
_CATALOGUE = "oversight_catalogue"

log = structlog.get_logger("oversight.schedule")


class Daemon:
    """One runner. `tick` does what is due now and returns at once; the work is done on threads."""

    def __init__(self, settings: Settings, dbt: Dbt) -> None:
        self.settings = settings
        self.leadership = Leadership(settings)
        self.work = Work(settings, dbt)
        self.jobs: list[Job] = []
        self._taken: dict[str, datetime] = {}
        self._is_stale = True
        self._connection: Connection | None = None
        self._busy: dict[str, set[str]] = {name: set() for name in THREADS}
        self._groups = dict.fromkeys(THREADS, 0)
        self._requests: set[int] = set()
        self._lock = threading.Lock()
        self._next_reap = 0.0
        self._scheduler = BackgroundScheduler(
            timezone=timezone.utc,
            executors={name: ThreadPoolExecutor(count) for name, count in THREADS.items()},
            job_defaults={"misfire_grace_time": None},
        )
        self._scheduler.start()

    def tick(self) -> None:
        """Beat; as the leader also take over, clean up, and start what is due or asked for."""
        was = self.leadership.epoch
        now = self.leadership.beat()
        if now is None or self.leadership.epoch is None:
            # What it still does goes on: each run is fenced by its own row.
            if was is not None:
                self._disconnect()
            return
        try:
            if self._connection is None or was != self.leadership.epoch:
                self._take_over()
            self._hear()
            self._reap()
            if self._is_stale:
                self._read_catalogue()
            self._start_due(now)
            self._start_requests()
        except (psycopg2.Error, OversightError) as error:
            log.warning("nothing started", error=str(error).strip())
            self._disconnect()

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than until somebody asks for something."""
        if self._connection is None or self._connection.closed:
            time.sleep(seconds)
            return
        with suppress(OSError, ValueError, psycopg2.Error):
            select.select([self._connection], [], [], seconds)

    def stop(self) -> None:
        """Finish or cancel what runs, then let another lead."""
        deadline = time.monotonic() + STOP_SECONDS
        while self._groups["refresh"] and time.monotonic() < deadline:
            self.leadership.beat()
            time.sleep(0.1)
        self.work.cancel("the runner was stopped")
        self._scheduler.shutdown(wait=True)
        self._disconnect()
        self.leadership.resign()

    def _take_over(self) -> None:
        self._disconnect()
        self._connection = connect(
            self.settings, autocommit=True, application_name="oversight schedule"
        )
        with self._connection.cursor() as cursor:
            cursor.execute(f"listen {requests.CHANNEL}; listen {_CATALOGUE}")
        spool.write_back(self.settings, self._connection)
        with self._lock:
            requests.put_back(self._connection, but=sorted(self._requests))
        self._is_stale = True
        # Runs of others may be connecting anew just now, after the same outage.
        self._next_reap = time.monotonic() + GRACE_SECONDS

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg2.Error):
                self._connection.close()
        self._connection = None
        self._is_stale = True

    def _hear(self) -> None:
        assert self._connection is not None
        self._connection.poll()
        for notification in self._connection.notifies:
            self._is_stale |= notification.channel == _CATALOGUE
        self._connection.notifies.clear()

    def _reap(self) -> None:
        """Close the runs of processes that died; what they should have refreshed is done anew."""
        if time.monotonic() < self._next_reap:
            return
        self._next_reap = time.monotonic() + REAP_SECONDS
        assert self._connection is not None
        for dead in abandon_dead(self._connection, LIVES):
            log.warning("abandoned", run_id=dead.run_id, job=dead.job_name)
            # A run that was a second try already is not tried a third time.
            if dead.scheduled_for is not None and dead.job_name in self._marts():
                again = self._job_of("refresh", {dead.job_name: None})
                self._submit("refresh", [dead.job_name], again)
        for backfill_id in revive(self._connection):
            log.info("backfill goes on", backfill_id=backfill_id)

    def _marts(self) -> set[str]:
        return {job.name for job in self.jobs if job.kind == "refresh"}

    def _read_catalogue(self) -> None:
        assert self._connection is not None
        try:
            catalogue = deployed(self._connection)
        except CatalogueError as error:
            log.warning("no catalogue", error=str(error))
            return
        ensure_raw_tables(self._connection, catalogue.sources)
        pulls = scheduled_pulls(os.environ, catalogue)
        self.jobs = sync_jobs(self._connection, wanted_jobs(catalogue, pulls))
        self._taken = taken_slots(self._connection)
        self._is_stale = False
        log.info("jobs", **{job.name.replace(" ", "_"): job.cadence for job in self.jobs})

    def _start_due(self, now: datetime) -> None:
        own = [job for job in self.jobs if job.clock == "runner"]
        found = due(own, self._taken, now)
        refreshes = []
        for item in found:
            lane = _LANES[item.job.kind]
            if item.job.name in self._busy[lane]:
                self._skip(item)
            elif self._groups[lane] < THREADS[lane]:
                if item.job.kind == "refresh":
                    refreshes.append(item)
                else:
                    self._start(lane, [item])
        if refreshes:
            self._start("refresh", refreshes)

    def _skip(self, item: Due) -> None:
        assert self._connection is not None
        assert self.leadership.epoch is not None
        epoch = self.leadership.epoch
        write_missed(self._connection, [item], epoch=epoch, reason="its last run took too long")
        write_skipped(self._connection, item, epoch=epoch)
        self._taken[item.job.name] = item.slot

    def _start(self, lane: str, items: list[Due]) -> None:
        assert self._connection is not None
        assert self.leadership.epoch is not None
        write_missed(
            self._connection,
            items,
            epoch=self.leadership.epoch,
            reason="no runner ran, or it was busy",
        )
        slots: Slots = {item.job.name: item.slot for item in items}
        for item in items:
            self._taken[item.job.name] = item.slot
        self._submit(lane, list(slots), self._job_of(items[0].job.kind, slots))

    def _job_of(self, kind: str, slots: Slots) -> Callable[[int], int]:
        if kind == "refresh":
            return lambda epoch: self.work.refresh(slots, list(slots), epoch=epoch)
        return lambda epoch: self.work.do(kind, slots, {}, epoch=epoch)

    def _start_requests(self) -> None:
        assert self._connection is not None
        assert self.leadership.epoch is not None
        for request in requests.pending(self._connection):
            lane = _LANES[request.kind]
            if self._groups[lane] >= THREADS[lane]:
                continue
            if requests.take(self._connection, request, epoch=self.leadership.epoch):
                names, function = self._asked(request)
                self._submit(lane, names, function, request=request)

    def _asked(self, request: Request) -> tuple[list[str], Callable[[int], int]]:
        if request.kind != "refresh":
            name = " ".join([request.kind, *map(str, request.arguments.get("engine", "").split())])
            slots: Slots = {name: request.scheduled_for}
            arguments = {**request.arguments, "request_id": request.request_id}
            return [name], lambda epoch: self.work.do(request.kind, slots, arguments, epoch=epoch)
        marts = [str(name) for name in request.arguments.get("marts", [])]
        if request.scheduled_for is not None:
            slots = dict.fromkeys(marts, request.scheduled_for)
        else:
            slots = {" ".join(["refresh", *marts]): None}
        full = request.arguments.get("full") is True
        return list(slots), lambda epoch: self.work.refresh(slots, marts, epoch=epoch, full=full)

    def _submit(
        self,
        lane: str,
        names: list[str],
        function: Callable[[int], int],
        *,
        request: Request | None = None,
    ) -> None:
        """Have a thread do it; its end is in refresh_log, whatever it is."""
        epoch = self.leadership.epoch
        assert epoch is not None
        with self._lock:
            self._busy[lane].update(names)
            self._groups[lane] += 1
            if request is not None:
                self._requests.add(request.request_id)
        self._scheduler.add_job(
            self._run, args=(lane, names, function, epoch, request), executor=lane
        )

    def _run(
        self,
        lane: str,
        names: list[str],
        function: Callable[[int], int],
        epoch: int,
        request: Request | None,
    ) -> None:
        status, run_id, problem = "done", None, None
        try:
            run_id = function(epoch)
        except NOT_DONE as error:
            log.info("not done", jobs=names, reason=str(error))
            status, problem = "cancelled", str(error)
        except Exception as error:
            # Its row says why; the next run must come all the same.
            log.error("failed", jobs=names, error=str(error))
            status, problem = "failed", str(error)
            self._is_stale = True
        finally:
            with self._lock:
                self._busy[lane].difference_update(names)
                self._groups[lane] -= 1
        if request is not None:
            try:
                requests.end(
                    self.settings, request.request_id, status, run_id=run_id, error=problem
                )
            except (psycopg2.Error, OversightError) as error:
                log.error("a request's end was not written", error=str(error))
            with self._lock:
                self._requests.discard(request.request_id)


_LANES = {
    "refresh": "refresh",
    "pull": "pull",
    "nightly": "upkeep",
    "weekly": "upkeep",
    "backfill": "backfill",
}


def schedule(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM; a refresh under way is finished first, other work cancelled."""
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with Dbt(settings) as dbt:
        daemon = Daemon(settings, dbt)
        try:
            while not stop.is_set():
                daemon.tick()
                daemon.wait(TICK_SECONDS)
        finally:
            log.info("stopping")
            daemon.stop()
