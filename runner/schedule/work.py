"""What the daemon's threads do: each a run with its row, none of which may stop the daemon."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial

from runner.runs.log import Run, RunCancelled, logged_runs
from runner.runs.opening import SlotTaken, Superseded
from runner.runs.refresh import RefreshError, run_dbt, run_tests
from runner.runs.warm_dbt import Dbt
from runner.schedule.requests import Request
from runner.upkeep.backup import back_up
from warehouse.catalogue import deployed
from warehouse.database import connect
from warehouse.errors import OversightError
from warehouse.settings import Settings

Slots = dict[str, datetime | None]
_RUN = "oversight_run_id"


class Work:
    """What each kind of job does; it knows the runs under way, to end them with the daemon."""

    def __init__(self, settings: Settings, dbt: Dbt) -> None:
        self.settings = settings
        self.dbt = dbt
        self._runs: set[Run] = set()
        self._lock = threading.Lock()

    def of_job(self, kind: str, slots: Slots, epoch: int) -> Callable[[], int]:
        """What does the jobs of a kind that are due; it gives back the first run_id."""
        if kind == "refresh":
            return partial(self.refresh, slots, list(slots), epoch=epoch)
        return partial(self.do, kind, slots, epoch=epoch)

    def of_requests(
        self, group: Sequence[Request], epoch: int
    ) -> tuple[list[str], Callable[[], int]]:
        """The jobs that requests are, and what does them together."""
        request, arguments = group[0], group[0].arguments
        if request.kind == "backfill":
            return [], partial(self.backfill, request, epoch=epoch)
        if request.kind != "refresh":
            name = f"{request.kind} {arguments.get('engine', '')}".strip()
            slots: Slots = {name: request.scheduled_for}
            return list(slots), self.of_job(request.kind, slots, epoch)
        marts = [str(name) for one in group for name in one.arguments.get("marts", [])]
        if request.scheduled_for is not None:
            slots = {
                str(m): one.scheduled_for for one in group for m in one.arguments.get("marts", [])
            }
        else:
            slots = {" ".join(["refresh", *marts]): None}
        full = arguments.get("full") is True
        return list(slots), partial(self.refresh, slots, marts, epoch=epoch, full=full)

    def refresh(self, slots: Slots, marts: Sequence[str], *, epoch: int, full: bool = False) -> int:
        """One dbt for all that is due together, in dependency order; gives back the first run_id.

        A job that still runs elsewhere, or whose slot was taken, is left out.
        """
        with self._run(slots, epoch=epoch) as run:
            if not run.is_skipped:
                left_out = slots.keys() - run.run_ids.keys()
                todo = [name for name in marts if name not in left_out]
                run_dbt(self.settings, run, self.dbt, todo, full=full)
        return run.run_id

    def do(self, kind: str, slots: Slots, *, epoch: int) -> int:
        """One job of another kind; gives back its run_id."""
        does = {"nightly": self._nightly, "weekly": self._weekly, "pull": self._pull}[kind]
        with self._run(slots, epoch=epoch) as run:
            if not run.is_skipped:
                does(run)
        return run.run_id

    def _nightly(self, run: Run) -> None:
        """Every mart refreshed, the tests of the whole project, a backup: each whatever failed.

        Marts of different cadences hold different batches; tests between them need the same.
        """
        failures = []
        for step in (
            partial(run_dbt, self.settings, run, self.dbt, ()),
            partial(run_tests, run, self.dbt),
            partial(back_up, self.settings, run),
        ):
            try:
                step()
            except RunCancelled:
                raise
            except OversightError as error:
                failures.append(str(error))
        if failures:
            raise RefreshError("; ".join(failures))

    def _weekly(self, run: Run) -> None:
        """What is older than declared goes, exported first."""
        from runner.upkeep.retention import retire

        retire(self.settings, run=run)

    def _pull(self, run: Run) -> None:
        """What one engine has new."""
        # The reader of extracts comes with it, 40 MB that a runner without pulls does not need.
        from runner.pull.pull import pull

        engine = run.job_name.removeprefix("pull ")
        connection = connect(self.settings, autocommit=True)
        try:
            catalogue = deployed(connection)
        finally:
            connection.close()
        pull(self.settings, catalogue, engine, run=run)

    def backfill(self, request: Request, *, epoch: int) -> int:
        """What is left of one backfill, which waits here for its turn; gives back its run_id."""
        from runner.backfill.backfill import backfill_of, run_backfill, steps_with

        backfill_id = backfill_of(self.settings, request.request_id, request.arguments)
        with self._run({f"backfill {backfill_id}": None}, epoch=epoch) as run:
            if not run.is_skipped:
                run_backfill(self.settings, backfill_id, run, steps=steps_with(self.dbt))
        return run.run_id

    def cancel(self, reason: str) -> None:
        """End every run under way; each writes its final state."""
        with self._lock:
            runs = list(self._runs)
        for run in runs:
            run.cancel(reason)

    @contextmanager
    def _run(self, slots: Slots, *, epoch: int) -> Iterator[Run]:
        with logged_runs(self.settings, slots, epoch=epoch) as run:
            with self._lock:
                self._runs.add(run)
            try:
                yield run
            except BaseException as error:
                setattr(error, _RUN, run.run_id)
                raise
            finally:
                with self._lock:
                    self._runs.discard(run)


def run_of(error: BaseException) -> int | None:
    """The run that an error came out of; None when it had no row yet."""
    run_id: int | None = getattr(error, _RUN, None)
    return run_id


NOT_DONE = (SlotTaken, Superseded, RunCancelled)
"""What ends a piece of work without anything being wrong with it."""
