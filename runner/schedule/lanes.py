"""The daemon's threads: a lane for each kind of work, so that none waits behind another kind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timezone

import psycopg2
import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from runner.backfill.turn import MAX_CONCURRENT
from runner.schedule import requests
from runner.schedule.requests import Request
from runner.schedule.work import NOT_DONE
from warehouse.errors import OversightError
from warehouse.settings import Settings

THREADS = {"refresh": 2, "pull": 1, "upkeep": 1, "backfill": MAX_CONCURRENT, "alerts": 1}
"""Two refreshes at one time, so that a mart that takes long holds up no other."""
LANE_OF = {
    "refresh": "refresh",
    "pull": "pull",
    "nightly": "upkeep",
    "weekly": "upkeep",
    "backfill": "backfill",
}

log = structlog.get_logger("oversight.schedule")


class Lanes:
    """What is under way, by lane; `has_failed` is set when something ended with an error."""

    def __init__(self, settings: Settings) -> None:
        self.has_failed = threading.Event()
        self._settings = settings
        self._names: dict[str, set[str]] = {name: set() for name in THREADS}
        self._counts = dict.fromkeys(THREADS, 0)
        self._requests: set[int] = set()
        self._lock = threading.Lock()
        self._scheduler = BackgroundScheduler(
            timezone=timezone.utc,
            executors={name: ThreadPoolExecutor(count) for name, count in THREADS.items()},
            job_defaults={"misfire_grace_time": None},
        )
        self._scheduler.start()

    def is_running(self, lane: str, name: str) -> bool:
        """Whether a job is under way here."""
        return name in self._names[lane]

    def has_room(self, lane: str) -> bool:
        """Whether something more could start in a lane at once."""
        return self._counts[lane] < THREADS[lane]

    def is_idle(self, *lanes: str) -> bool:
        """Whether nothing is under way in the lanes, all of them when none is named."""
        return not any(self._counts[lane] for lane in lanes or THREADS)

    def requests(self) -> list[int]:
        """The requests that are being done here."""
        with self._lock:
            return sorted(self._requests)

    def submit(
        self,
        lane: str,
        names: Sequence[str],
        function: Callable[[], int],
        asked: Sequence[Request] = (),
    ) -> None:
        """Have a thread do it. `function` gives back its run_id; its row tells how it ended.

        `asked` are the requests that it answers.
        """
        with self._lock:
            self._names[lane].update(names)
            self._counts[lane] += 1
            self._requests.update(request.request_id for request in asked)
        self._scheduler.add_job(self._run, args=(lane, names, function, asked), executor=lane)

    def close(self) -> None:
        """Wait for what is under way."""
        self._scheduler.shutdown(wait=True)

    def _run(
        self,
        lane: str,
        names: Sequence[str],
        function: Callable[[], int],
        asked: Sequence[Request],
    ) -> None:
        status, run_id, problem = "done", None, None
        try:
            run_id = function()
        except NOT_DONE as error:
            log.info("not done", jobs=names, reason=str(error))
            status, problem = "cancelled", str(error)
        except Exception as error:
            # Its row says why; whatever it was, the next run must come.
            log.error("failed", jobs=names, error=str(error))
            status, problem = "failed", str(error)
            self.has_failed.set()
        finally:
            with self._lock:
                self._names[lane].difference_update(names)
                self._counts[lane] -= 1
        for request in asked:
            self._end(request, status, run_id, problem)

    def _end(self, request: Request, status: str, run_id: int | None, problem: str | None) -> None:
        try:
            requests.end(self._settings, request.request_id, status, run_id=run_id, error=problem)
        except (psycopg2.Error, OversightError) as error:
            log.error("a request's end was not written", error=str(error))
        finally:
            with self._lock:
                self._requests.discard(request.request_id)
