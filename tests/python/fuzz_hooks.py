"""What holds between the parameters of one request, which no OpenAPI schema can say.

schemathesis expects that a request is accepted when each part of it fits its schema, so requests
that are meant to be valid are made to agree with themselves here; all others are sent as they are.
"""

from __future__ import annotations

import random
import uuid
from datetime import date, datetime, timedelta, timezone
from typing import Any

import schemathesis
from schemathesis.generation import GenerationMode

_LONGEST_DAYS = 92
_MOST_WEEKS = 52
_PAST_DAYS = 3000
_ENGINE = "oversight"
"""The only one of the project's engines that can be asked."""


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Make a valid request one that can be answered."""
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    query = case.query or {}
    # Only the API itself can make a token; tests of paging send them.
    query.pop("page", None)
    if "week" in query:
        query.pop("from", None)
        query.pop("to", None)
        query["week"] = _existing(query["week"])
    elif "from" in query and "to" in query:
        query["to"] = _near(query["from"], query["to"])
    if "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = uuid.uuid4().hex
    if isinstance(case.body, dict) and "engine" in case.body:
        case.body["engine"] = _ENGINE
        if "from" in case.body:
            case.body |= weeks_to_ask(repr(case.body), datetime.now(timezone.utc).date())


def weeks_to_ask(drawn: str, today: date) -> dict[str, str]:
    """A range that a backfill may have, another one for each drawn text, as days or ISO weeks."""
    source = random.Random(drawn)
    last = today - timedelta(days=source.randrange(_PAST_DAYS))
    # Between Mondays so far apart lie as many weeks as a backfill may have, both included.
    first = last - timedelta(days=source.randrange(7 * (_MOST_WEEKS - 1) + 1))
    return {
        name: day.isoformat() if source.random() < 0.5 else day.strftime("%G-W%V")
        for name, day in (("from", first), ("to", last))
    }


def _existing(week: str) -> str:
    year, number = int(week[:4]), int(week[6:])
    try:
        date.fromisocalendar(year, number, 1)
    except ValueError:
        return f"{max(year, 1):04}-W52"
    return week


def _near(first: str, last: str) -> str:
    """The last day, or one that is not before the first nor too far from it."""
    start, days = date.fromisoformat(first), date.fromisoformat(last).toordinal()
    try:
        return (start + timedelta(days=days % _LONGEST_DAYS)).isoformat()
    except OverflowError:
        return first
