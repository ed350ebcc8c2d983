"""The daemon's threads: a lane for each kind of work, so that none waits behind another kind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import structlog

from runner.backfill.turn import MAX_CONCURRENT
from runner.schedule import requests
from runner.schedule.requests import End, Request
from runner.schedule.work import NOT_DONE, run_of
from warehouse.errors import OversightError
from warehouse.settings import Settings

THREADS = {"refresh": 2, "pull": 1, "upkeep": 1, "backfill": MAX_CONCURRENT, "alerts": 1}
"""Two refreshes at one time: marts that come due while others take long don't wait for them."""
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
        self._pools = {
            name: ThreadPoolExecutor(count, thread_name_prefix=name)
            for name, count in THREADS.items()
        }

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
        try:
            self._pools[lane].submit(self._run, lane, names, function, asked)
        except RuntimeError:
            # No thread can be started; lane and requests must be free when one can.
            self._release(lane, names)
            with self._lock:
                self._requests.difference_update(request.request_id for request in asked)
            raise

    def close(self) -> None:
        """Wait for what is under way."""
        for pool in self._pools.values():
            pool.shutdown(wait=True)

    def _run(
        self,
        lane: str,
        names: Sequence[str],
        function: Callable[[], int],
        asked: Sequence[Request],
    ) -> None:
        end = End(status="done")
        try:
            end = End(status="done", run_id=function())
        except NOT_DONE as error:
            log.info("not done", jobs=names, reason=str(error))
            end = End(status="cancelled", run_id=run_of(error), error=str(error))
        except Exception as error:
            # Its row says why; whatever it was, the next run must come.
            log.error("failed", jobs=names, error=str(error))
            end = End(status="failed", run_id=run_of(error), error=str(error))
            self.has_failed.set()
        finally:
            self._release(lane, names)
        for request in asked:
            self._end(request, end)

    def _release(self, lane: str, names: Sequence[str]) -> None:
        with self._lock:
            self._names[lane].difference_update(names)
            self._counts[lane] -= 1

    def _end(self, request: Request, end: End) -> None:
        try:
            requests.end(self._settings, request, end)
        except (psycopg2.Error, OversightError) as error:
            log.error("a request's end was not written", error=str(error))
        finally:
            with self._lock:
                self._requests.discard(request.request_id)
