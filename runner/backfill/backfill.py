"""Backfill: old weeks of an engine pulled, landed and taken over by the marts, one by one.

A week is done when every mart that stands on the engine holds its batch. Each step is written down
before the next begins, and finds what an attempt before it left, so that a process may die at any
point: the next goes on from there, lands nothing twice and loses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import structlog
from psycopg2.errors import LockNotAvailable

from runner.backfill import ledger as books
from runner.backfill.evidence import find_batch, landed, mart_checksums, marts_without
from runner.backfill.ledger import Progress, Week, ledger
from runner.backfill.requests import backfill_of, request_backfill
from runner.backfill.turn import Turn, TurnLostError
from runner.landing.ledger import LoadReport
from runner.pull.errors import PullError
from runner.runs.log import RunCancelled
from runner.runs.refresh import refresh
from runner.runs.warm_dbt import Dbt
from warehouse.backfills import BackfillError
from warehouse.catalogue import Catalogue, Mart, deployed
from warehouse.database import connect
from warehouse.errors import DatabaseUnreachableError, OversightError
from warehouse.settings import Settings
from warehouse.weeks import label, window

__all__ = ["BackfillError", "backfill_of", "request_backfill", "run_backfill"]

WAIT_SECONDS = 1.0
log = structlog.get_logger("oversight.backfill")


class Run(Protocol):
    """What a backfill needs of the run that it is."""

    rows_affected: int | None

    @property
    def run_id(self) -> int:
        """Its row in metadata.refresh_log."""

    def check(self) -> None:
        """Raise RunCancelled when the run is over."""


Pull = Callable[[Settings, Catalogue, str, tuple[date, date], Run], LoadReport]
Refresh = Callable[[Settings, list[str], str], object]
Check = Callable[[Catalogue, str], None]
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How weeks are pulled and marts are refreshed."""

    pull: Pull
    refresh: Refresh
    check: Check = lambda _catalogue, _engine: None
    """Raises PullError when the engine can't be asked here at all."""


def run_backfill(
    settings: Settings,
    backfill_id: int,
    run: Run,
    *,
    steps: Steps | None = None,
    on_progress: OnProgress = lambda _: None,
) -> None:
    """Do what is left of a backfill, after waiting for its turn; returns when it is paused, too.

    Raises BackfillError when weeks have failed for good, RunCancelled when the run was cancelled.
    """
    engine = books.progress(settings, backfill_id).engine
    books.note_run(settings, backfill_id, run.run_id)
    with ExitStack() as stack:
        turn = stack.enter_context(Turn(settings, engine, run_id=run.run_id))
        try:
            if not _wait(settings, backfill_id, run, turn, on_progress):
                return
            work = _Work(
                settings=settings,
                catalogue=_catalogue(settings),
                engine=engine,
                steps=steps or steps_with(stack.enter_context(Dbt(settings))),
                run=run,
            )
            _check(work, backfill_id)
            status = _go_on(work, backfill_id, turn, on_progress)
        except RunCancelled:
            books.cancel_if_asked(settings, backfill_id, run.run_id)
            raise
    log.info("backfill", backfill_id=backfill_id, engine=engine, status=status)
    if status == "failed":
        error = books.progress(settings, backfill_id).error_message
        raise BackfillError(
            f"backfill {backfill_id}: weeks have failed ({error}); put right what they say, then "
            f"`oversight backfill resume {backfill_id} --only-failed`"
        )


@dataclass(frozen=True, kw_only=True)
class _Work:
    settings: Settings
    catalogue: Catalogue
    engine: str
    steps: Steps
    run: Run


def _wait(
    settings: Settings, backfill_id: int, run: Run, turn: Turn, on_progress: OnProgress
) -> bool:
    """Wait for the turn; False when the backfill was paused, cancelled or ended meanwhile."""
    while True:
        now = books.progress(settings, backfill_id)
        if now.status not in ("pending", "running"):
            return False
        if turn.take():
            return True
        on_progress(now)
        time.sleep(WAIT_SECONDS)
        run.check()


def _check(work: _Work, backfill_id: int) -> None:
    """An engine whose address is not set here would fail week by week."""
    try:
        work.steps.check(work.catalogue, work.engine)
    except PullError as error:
        books.refuse(work.settings, backfill_id, str(error))
        raise BackfillError(
            f"backfill {backfill_id}: {error}; then `oversight backfill resume {backfill_id}`"
        ) from error


def _go_on(work: _Work, backfill_id: int, turn: Turn, on_progress: OnProgress) -> str:
    """Week after week until none is left; gives back the backfill's status."""
    rows = 0
    status = ""
    while books.begin(work.settings, backfill_id, work.run.run_id):
        while (week := books.claim(work.settings, backfill_id)) is not None:
            on_progress(books.progress(work.settings, backfill_id))
            turn.check()
            rows += _attempt(work, week)
            work.run.rows_affected = rows
            on_progress(books.progress(work.settings, backfill_id))
        status = books.finish(work.settings, backfill_id)
    return status or books.progress(work.settings, backfill_id).status


def _attempt(work: _Work, week: Week) -> int:
    """One attempt of one week, its error kept in the ledger; gives back the rows that landed."""
    try:
        work.run.check()
        if week.attempt > week.last_attempt:
            raise BackfillError(f"the process died in each of {week.last_attempt} attempts")
        return _do(work, week)
    except RunCancelled:
        books.give_back(work.settings, week)
        raise
    except LockNotAvailable as error:
        # A landing that takes long is none of the week's fault, so the attempt does not count.
        books.give_back(work.settings, week)
        raise BackfillError(
            f"{label(week.week)}: another landing of {work.engine} takes long, and whether it is "
            f"this week's can't be seen yet; the runner goes on in a minute, or "
            f"`oversight backfill resume {week.backfill_id}`"
        ) from error
    except (DatabaseUnreachableError, TurnLostError):
        # None of the week's fault, and not to be written down now: the next call takes it up.
        raise
    except OversightError as error:
        log.warning("week failed", week=label(week.week), attempt=week.attempt, error=str(error))
        books.fail_attempt(work.settings, week, str(error))
        return 0


def _do(work: _Work, week: Week) -> int:
    """Land, refresh, write down what there is to show for it."""
    batch_id = week.batch_id
    if batch_id is None and week.attempt > 1:
        with ledger(work.settings) as cursor:
            batch_id = find_batch(cursor, work.engine, week)
    is_new = True
    if batch_id is None:
        batch_id, is_new = _land(work, week)
    rows = _write_landed(work, week, batch_id) if batch_id is not None and is_new else 0
    if batch_id is not None:
        _refresh(work, week, batch_id)
    with ledger(work.settings) as cursor:
        checksums = mart_checksums(cursor, _marts(work), work.engine, week)
        books.end_week(
            cursor,
            week,
            "done" if is_new else "skipped",
            batch_id=batch_id,
            mart_checksums=checksums,
        )
    return rows


def _land(work: _Work, week: Week) -> tuple[int | None, bool]:
    """The batch that holds the week, and whether it is new; None when the engine sent nothing."""
    report = work.steps.pull(
        work.settings, work.catalogue, work.engine, window(week.week), work.run
    )
    if report.status != "landed":
        raise BackfillError(f"batch {report.batch_id} is rejected: {report.error}")
    if report.batch_id is not None:
        return report.batch_id, True
    return max(report.skipped.values(), default=None), False


def _write_landed(work: _Work, week: Week, batch_id: int) -> int:
    with ledger(work.settings) as cursor:
        batch = landed(cursor, work.catalogue, work.engine, batch_id)
        books.note(
            cursor,
            week,
            batch_id=batch.batch_id,
            rows_landed=batch.rows,
            rows_rejected=batch.rejected,
            landed_checksum=batch.checksum,
        )
    return batch.rows


def _refresh(work: _Work, week: Week, batch_id: int) -> None:
    """Have the marts take the batch, unless a regular refresh was quicker."""
    if missing := _missing(work, batch_id):
        work.steps.refresh(work.settings, missing, f"refresh for backfill {week.backfill_id}")
        if missing := _missing(work, batch_id):
            raise BackfillError(f"{', '.join(missing)} did not take batch {batch_id}")


def _missing(work: _Work, batch_id: int) -> list[str]:
    with ledger(work.settings) as cursor:
        return marts_without(cursor, _marts(work), work.engine, batch_id)


def _marts(work: _Work) -> list[Mart]:
    return [mart for mart in work.catalogue.marts if mart.cadence is not None]


def _catalogue(settings: Settings) -> Catalogue:
    connection = connect(settings)
    try:
        return deployed(connection)
    finally:
        connection.close()


def steps_with(dbt: Dbt) -> Steps:
    """Pulling over HTTP, and refreshes by a dbt that stays warm from week to week."""
    from runner.pull.pull import check_access, pull

    return Steps(
        check=check_access,
        pull=lambda settings, catalogue, engine, week, run: pull(
            settings, catalogue, engine, window=week, run=run
        ),
        refresh=lambda settings, marts, job_name: refresh(
            settings, marts, job_name=job_name, dbt=dbt
        ),
    )
