"""Times, spans and counts as the pages write them."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal

from markupsafe import Markup

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60))


def span(seconds: float | Decimal | None) -> str:
    """A length of time in its two largest units; `-` when there is none."""
    if seconds is None:
        return "-"
    rest = round(seconds)
    for place, (unit, size) in enumerate(_UNITS):
        if rest < size:
            continue
        whole, rest = divmod(rest, size)
        if place + 1 < len(_UNITS):
            lower, lower_size = _UNITS[place + 1]
            if rest >= lower_size:
                return f"{whole} {unit} {rest // lower_size} {lower}"
        elif rest and whole < 10:
            return f"{whole} {unit} {rest} s"
        return f"{whole} {unit}"
    return f"{float(seconds):.1f} s" if 0 < seconds < 10 else f"{rest} s"


def milliseconds(seconds: float) -> str:
    """A short time, with a digit behind the point below ten."""
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 10 else f"{count(round(value))} ms"


def instant(text: str) -> datetime:
    """A time as the API writes it."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)


def moment(text: str | None, as_of: str) -> str:
    """A time of this day by the clock, another with its day, in UTC; `never` when there is none."""
    if text is None:
        return "never"
    when, now = instant(text), instant(as_of)
    if when.date() == now.date():
        return f"{when:%H:%M:%S}"
    if when.year == now.year:
        return f"{when.day} {when:%b %H:%M}"
    return f"{when.day} {when:%b %Y}"


def ago(text: str | None, as_of: str) -> str:
    """How long before `as_of` a time was; empty when there is none or it is to come."""
    if text is None:
        return ""
    seconds = (instant(as_of) - instant(text)).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def count(number: int | Decimal | None) -> str:
    """A whole number with thin groups; `-` when there is none."""
    return "-" if number is None else f"{number:,}".replace(",", "\u202f")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun."""
    return f"{count(number)} {noun if number == 1 else plural or noun + 's'}"


def amount(text: str | None) -> str:
    """A figure with all its digits; `none` where a side has none."""
    if text is None:
        return "none"
    whole, point, digits = text.partition(".")
    sign, whole = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    grouped = f"{int(whole):,}".replace(",", "\u202f") if whole.isdigit() else whole
    return f"{sign}{grouped}{point}{digits}"


def breakable(name: str) -> Markup:
    """A name that may go on in the next line after each underscore."""
    return Markup("_<wbr>").join(name.split("_"))


def percent(share: Decimal | float | None) -> str:
    """A share, never rounded up to all; `-` when there is none."""
    if share is None:
        return "-"
    tenths = int(share * 1000)
    return f"{tenths // 10} %" if tenths % 10 == 0 else f"{tenths / 10:.1f} %"
