"""Cron lines as pg_cron reads them; the scheduler's own reading is the one that is declared."""

from __future__ import annotations

import re

from warehouse.errors import OversightError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_VALUE = r"(\d+|[a-z]{3})"
_PART = rf"(\*(/\d+)?|{_VALUE}(-{_VALUE}(/\d+)?)?)"
_READ_ALIKE = re.compile(rf"{_PART}(,{_PART})*")


class CronLineError(OversightError):
    """A cron line that pg_cron would read in another way than it is declared."""


def to_pg_cron(cadence: str) -> str:
    """A declared cron line of the same slots in pg_cron; CronLineError when there is none.

    pg_cron runs a line with both a day of the month and a weekday on either of them; counts
    weekdays from Sunday, so that its ranges can't end there; knows neither `last` nor `5/15`.
    """
    minute, hour, day, month, weekday = cadence.lower().split()
    if day != "*" and weekday != "*":
        raise CronLineError(
            f"pg_cron would run {cadence!r} on each of these weekdays and on each of these days"
        )
    for text in (minute, hour, day, month):
        if not _READ_ALIKE.fullmatch(text):
            raise CronLineError(f"pg_cron can't read {text!r} of {cadence!r}")
    return " ".join((minute, hour, day, month, _weekdays(weekday)))


def _weekdays(text: str) -> str:
    """Each weekday by its name."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if part == "*":
            return "*"
        found |= set(range(_DAYS.index(first), _DAYS.index(last or first) + 1))
    return ",".join(_DAYS[number] for number in sorted(found))
