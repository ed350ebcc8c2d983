"""Durations and cadences as they are written in declarations."""

from __future__ import annotations

import re

from apscheduler.triggers.cron import CronTrigger

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def duration_seconds(text: str) -> int:
    """A duration such as 15m, 2h or 92d in seconds."""
    return int(text[:-1]) * _SECONDS[text[-1]]


def cadence_problem(text: str) -> str | None:
    """Why the text is no cadence; None when it is one."""
    fields = text.split()
    try:
        CronTrigger.from_crontab(text, timezone="UTC")
    except ValueError as error:
        return f"{text!r} is no cron line of five fields in UTC, such as '*/15 * * * *': {error}"
    if re.search(r"\d", fields[4]):
        return f"{text!r}: write weekdays as mon to sun; programs disagree on their numbers"
    return None
