"""When jobs are due: slots of cron lines in UTC, worked out from the newest slot that was taken.

Everything here is a function of its arguments; the one clock is the database's, so that several
machines agree. A clock set back meets slots that were taken already, and nothing runs twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache

from apscheduler.triggers.cron import CronTrigger

REMEMBERED = timedelta(days=35)
"""Slots older than this are not worked out any more, however long nothing ran."""
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Something to be done at the slots of a cron line; those up to `since` were never due."""

    name: str
    kind: str
    cadence: str
    since: datetime
    clock: str = "runner"


@dataclass(frozen=True, kw_only=True)
class Due:
    """The newest slot of a job, to be run, and older ones that nobody took, newest last."""

    job: Job
    slot: datetime
    missed: tuple[datetime, ...]


def due(jobs: Iterable[Job], taken: Mapping[str, datetime], now: datetime) -> list[Due]:
    """What is to be done now; `taken` is the newest slot by job that refresh_log knows.

    However many slots have passed, each job is run once.
    """
    found = []
    for job in jobs:
        after = max(taken.get(job.name, job.since), job.since, now - REMEMBERED)
        slots = slots_between(job.cadence, after, now)
        if slots:
            found.append(Due(job=job, slot=slots[-1], missed=tuple(slots[:-1])))
    return found


def slots_between(cadence: str, after: datetime, until: datetime) -> list[datetime]:
    """The slots of a cron line later than `after` and not later than `until`, in UTC."""
    slots = []
    slot = next_slot(cadence, after)
    while slot <= until:
        slots.append(slot)
        slot = next_slot(cadence, slot)
    return slots


@lru_cache(maxsize=1024)
def next_slot(cadence: str, after: datetime) -> datetime:
    """The first slot later than a moment; a line that never comes (February 30) gives the end."""
    trigger = CronTrigger.from_crontab(cadence, timezone=timezone.utc)
    slot = trigger.get_next_fire_time(None, after.astimezone(timezone.utc) + _INSTANT)
    return slot or datetime.max.replace(tzinfo=timezone.utc)
