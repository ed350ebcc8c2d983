"""When an extract was true and which days it speaks of: from control file, name or columns only."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from runner.landing.errors import LandingError

if TYPE_CHECKING:
    from runner.landing.extracts import Extract

EVERYTHING = ("-infinity", "infinity")
_KEYS = {"as_of", "window", "records"}


@dataclass(frozen=True, kw_only=True)
class ControlFile:
    """What `<file>.control.json` says of its extract; `text` is the file as it stands."""

    text: str
    as_of: str | None
    window: tuple[str, str] | None
    records: int | None


def read_control_file(path: Path) -> ControlFile | None:
    """None when there is none; LandingError when it says something that can't be understood."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        content: Any = json.loads(text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LandingError(f"{path}: no readable JSON: {error}") from error
    if not isinstance(content, dict) or not set(content) <= _KEYS:
        raise LandingError(f"{path}: it must hold one object with {', '.join(sorted(_KEYS))} only")
    records = content.get("records")
    if records is not None and (type(records) is not int or records < 0):
        raise LandingError(f"{path}: records is {records!r}; it must be a count")
    window = content.get("window")
    if window is not None and not (isinstance(window, dict) and set(window) == {"from", "to"}):
        raise LandingError(f"{path}: window must hold `from` and `to`, days like 2026-01-31")
    as_of = content.get("as_of")
    return ControlFile(
        text=text,
        as_of=None if as_of is None else _moment(str(as_of), None, str(path)),
        window=None if window is None else _days(str(window["from"]), str(window["to"]), str(path)),
        records=records,
    )


def window_text(extract: Extract) -> tuple[str, str] | None:
    """First and last day as PostgreSQL reads them; None when each record says its own."""
    window = extract.table.window
    if extract.table.mode != "snapshot" or window is None or window.kind == "columns":
        return None
    if window.kind == "all":
        return EVERYTHING
    if window.kind == "control_file":
        if extract.control is None or extract.control.window is None:
            raise LandingError(_control_missing(extract, "window"))
        return extract.control.window
    found = re.search(window.pattern or "", extract.name)
    if found is None:
        raise LandingError(f"{extract.path}: the declared pattern finds no window in its name")
    return _days(found["from"], found["to"], str(extract.path))


def as_of_text(extract: Extract) -> str | None:
    """When the extract was true, in UTC; None when a column says it or, for append, nobody."""
    control = extract.control
    if extract.table.mode != "snapshot" or extract.table.as_of is None:
        return control.as_of if control else None
    kind = extract.table.as_of.kind
    if kind == "column":
        return None
    if kind == "control_file":
        if control is None or control.as_of is None:
            raise LandingError(_control_missing(extract, "as_of"))
        return control.as_of
    found = re.search(extract.table.as_of.pattern or "", extract.name)
    if found is None:
        raise LandingError(f"{extract.path}: the declared pattern finds no as-of time in its name")
    return _moment(found["as_of"], extract.table.zone, str(extract.path))


def _control_missing(extract: Extract, key: str) -> str:
    return (
        f"{extract.path}: source {extract.table.engine}.{extract.table.name} declares `{key}: "
        f"control_file`, but {extract.name}.control.json doesn't say it; have the engine write it"
    )


def _days(first: str, last: str, place: str) -> tuple[str, str]:
    days = []
    for text in (first, last):
        try:
            iso = f"{text[:4]}-{text[4:6]}-{text[6:]}" if text.isdigit() else text
            days.append(date.fromisoformat(iso))
        except ValueError as error:
            raise LandingError(f"{place}: {text!r} is no day like 2026-01-31") from error
    if days[0] > days[1]:
        raise LandingError(f"{place}: its window ends on {days[1]}, before it begins on {days[0]}")
    return days[0].isoformat(), days[1].isoformat()


def _moment(text: str, zone: str | None, place: str) -> str:
    """An ISO time, or its digits as in 20260131T010203Z or 20260131, as ISO in UTC."""
    digits = re.fullmatch(r"(\d{8})(?:[T_-]?(\d{6}))?(Z?)", text)
    try:
        if digits:
            clock = digits[2] or "000000"
            iso = f"{digits[1]}T{clock[:2]}:{clock[2:4]}:{clock[4:]}"
            day = f"{iso[:4]}-{iso[4:6]}-{iso[6:]}"
            moment = datetime.fromisoformat(day + ("+00:00" if digits[3] else ""))
        else:
            moment = datetime.fromisoformat(re.sub(r"Z$", "+00:00", text))
    except ValueError as error:
        raise LandingError(f"{place}: {text!r} is no time like 2026-01-31T23:59:59Z") from error
    if moment.tzinfo is None:
        if zone is None:
            raise LandingError(
                f"{place}: the time {text!r} has no zone; write it with Z or declare a zone"
            )
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return moment.astimezone(timezone.utc).isoformat()
