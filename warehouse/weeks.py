"""ISO weeks, the units of a backfill, each named by its Monday."""

from __future__ import annotations

import re
from datetime import date, timedelta

from warehouse.errors import OversightError

_WEEK = timedelta(days=7)
_DAY_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WEEK_FORM = re.compile(r"([0-9]{4})-W([0-9]{2})")


class WeekError(OversightError):
    """A week or a range of weeks that can't be meant; the message says what can."""


def parse_week(text: str) -> date:
    """The Monday of the ISO week that is named, or that holds the day that is named."""
    try:
        if _DAY_FORM.fullmatch(text):
            return monday_of(date.fromisoformat(text))
        if found := _WEEK_FORM.fullmatch(text):
            return date.fromisocalendar(int(found[1]), int(found[2]), 1)
    except ValueError as error:
        raise WeekError(f"{text} does not exist: {error}") from error
    raise WeekError(f"{text!r} is neither a day such as 2026-01-31 nor a week such as 2026-W05")


def monday_of(day: date) -> date:
    """The Monday of the ISO week that holds the day."""
    return day - timedelta(days=day.weekday())


def label(monday: date) -> str:
    """The week's ISO name, whose year is that of its Thursday: 2026-W53 ends in 2027."""
    year, week, _ = monday.isocalendar()
    return f"{year}-W{week:02}"


def window(monday: date) -> tuple[date, date]:
    """The first and the last day of the week, both included."""
    return monday, monday + timedelta(days=6)


def mondays(first: date, last: date, *, most: int, today: date) -> list[date]:
    """Every week from the first Monday to the last; consecutive, however many weeks a year has.

    Raises WeekError when the range is reversed, longer than `most` weeks or ahead of `today`.
    """
    count = (last - first).days // 7 + 1
    if count < 1:
        raise WeekError(f"{label(first)} is after {label(last)}; --from is the earlier week")
    if last > today:
        this = label(monday_of(today))
        raise WeekError(f"{label(last)} has not begun; the last week to ask for is {this}")
    if count > most:
        parts = [
            f"{label(begin)} to {label(min(begin + (most - 1) * _WEEK, last))}"
            for begin in (first + step * _WEEK for step in range(0, count, most))
        ]
        raise WeekError(
            f"{label(first)} to {label(last)} are {count} weeks, and one backfill has at most "
            f"{most}; split it: {', '.join(parts[:4])}{' ...' if len(parts) > 4 else ''}"
        )
    return [first + step * _WEEK for step in range(count)]
