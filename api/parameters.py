"""Query parameters of a mart, as marshmallow schemas made from its declaration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

from marshmallow import RAISE, Schema, ValidationError, fields, validate
from werkzeug.datastructures import MultiDict

from api.problems import ParameterError, bad_request
from warehouse.catalogue import Mart, MartWindow

DEFAULT_PAGE_SIZE = 500
MAX_PAGE_SIZE = 5000
PAGING = ("page", "page_size")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WEEK = re.compile(r"([0-9]{4})-W([0-9]{2})")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,20})?")
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,6000}")
_UNFIT_TEXT = re.compile("[\x00-\x1f\x7f\ufffd]")


class Day(fields.Field[date]):
    """A calendar day, YYYY-MM-DD and nothing else that ISO 8601 allows."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> date:
        if not _DAY.fullmatch(value):
            raise ValidationError(f"{_shown(value)} is not a day; write YYYY-MM-DD")
        try:
            return date.fromisoformat(value)
        except ValueError as error:
            raise ValidationError(f"{_shown(value)} is a day that does not exist") from error


class Week(fields.Field[date]):
    """An ISO week, YYYY-Www, as the date of its Monday."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> date:
        match = _WEEK.fullmatch(value)
        if match is None:
            raise ValidationError(
                f"{_shown(value)} is not an ISO week; write YYYY-Www, such as 2026-W07"
            )
        year, week = int(match.group(1)), int(match.group(2))
        try:
            return date.fromisocalendar(year, week, 1)
        except ValueError as error:
            detail = f"; {year} has {_weeks_of(year)} ISO weeks" if 0 < year < 9999 else ""
            raise ValidationError(f"the week {value} does not exist{detail}") from error


class Text(fields.Field[str]):
    """Text as it may be compared with a column; empty is refused, it would restrict nothing."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not value:
            raise ValidationError("is empty; give a value or leave the parameter out")
        if len(value) > 500 or _UNFIT_TEXT.search(value):
            raise ValidationError("is no usable text: over 500 characters, or not printable UTF-8")
        return str(value)


class Token(fields.Field[str]):
    """An opaque token; its own check comes later, with the query that it belongs to."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not _TOKEN.fullmatch(value):
            raise ValidationError("is no page token; use the next_page of the answer before")
        return str(value)


class Whole(fields.Field[int]):
    """A whole number in digits."""

    def __init__(self, *, least: int | None = None, most: int | None = None, **kwargs: Any) -> None:
        bounds = validate.Range(min=least, max=most) if (least, most) != (None, None) else None
        super().__init__(validate=bounds, **kwargs)
        self.least, self.most = least, most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not _WHOLE.fullmatch(value):
            raise ValidationError(f"{_shown(value)} is not a whole number")
        return int(value)


class Number(fields.Field[Decimal]):
    """A decimal number in digits."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Decimal:
        if not _NUMBER.fullmatch(value):
            raise ValidationError(f"{_shown(value)} is not a number")
        return Decimal(value)


class Flag(fields.Field[bool]):
    """true or false."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if value not in ("true", "false"):
            raise ValidationError(f"{_shown(value)} is neither true nor false")
        return bool(value == "true")


_FIELD_OF_TYPE: Mapping[str, type[fields.Field[Any]]] = {
    "date": Day,
    "smallint": Whole,
    "integer": Whole,
    "int": Whole,
    "bigint": Whole,
    "numeric": Number,
    "boolean": Flag,
}


@dataclass(frozen=True, kw_only=True)
class Window:
    """The days asked for, both inclusive; None where the answer's data_through decides."""

    first: date | None
    last: date | None


@dataclass(frozen=True, kw_only=True)
class Request:
    """A checked read of one mart. `query` holds the parameters as sent, without paging."""

    window: Window
    filters: Mapping[str, Any]
    page: str | None
    page_size: int
    query: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class MartParameters:
    """What one mart may be asked."""

    mart: Mart

    @cached_property
    def schema(self) -> Schema:
        """The schema; unknown parameters are refused."""
        declared: dict[str, fields.Field[Any]] = {}
        window = self.mart.window
        if window is not None:
            if window.kind == "week":
                declared["week"] = Week(metadata={"description": "One ISO week, YYYY-Www."})
            declared["from"] = Day(metadata={"description": _from_text(window)})
            declared["to"] = Day(metadata={"description": _to_text(window)})
        for name in self.mart.filters:
            column = self.mart.column(name)
            kind = _FIELD_OF_TYPE.get(column.data_type.split("(")[0], Text)
            declared[name] = kind(metadata={"description": f"Only rows with this {name}."})
        declared["page"] = Token(
            metadata={"description": "The next_page of the answer before, with the same query."}
        )
        declared["page_size"] = Whole(
            least=1,
            most=MAX_PAGE_SIZE,
            load_default=DEFAULT_PAGE_SIZE,
            metadata={"description": f"Rows per page, at most {MAX_PAGE_SIZE}."},
        )
        schema: Schema = Schema.from_dict(dict(declared), name=f"{self.mart.name}_parameters")()
        schema.unknown = RAISE
        return schema

    def request(self, arguments: MultiDict[str, str]) -> Request:
        """The request that query arguments make; a problem (400) names every wrong parameter."""
        values = load(self.schema, arguments)
        return Request(
            window=self._window(values),
            filters={name: values[name] for name in self.mart.filters if name in values},
            page=values.get("page"),
            page_size=values["page_size"],
            query=tuple(sorted(pair for pair in arguments.items() if pair[0] not in PAGING)),
        )

    def _window(self, values: Mapping[str, Any]) -> Window:
        window = self.mart.window
        if window is None:
            return Window(first=None, last=None)
        first, last = values.get("from"), values.get("to")
        if monday := values.get("week"):
            if first or last:
                raise bad_request(
                    [ParameterError(parameter="week", message="give it or from and to")]
                )
            return Window(first=monday, last=_shift(monday, 6))
        length = window.default_days - 1
        if first and not last:
            last = _shift(first, length)
        elif last and not first:
            first = _shift(last, -length)
        if first and last:
            _check_window(first, last, window)
        return Window(first=first, last=last)


def load(schema: Schema, arguments: MultiDict[str, str]) -> dict[str, Any]:
    """Check arguments by a schema; a problem (400) names the wrong ones and what is known."""
    known = sorted(schema.fields)
    errors = [
        ParameterError(parameter=name, message="is given more than once")
        for name, values in arguments.lists()
        if len(values) > 1
    ]
    loaded: dict[str, Any] = {}
    try:
        loaded = dict(schema.load(arguments.to_dict()))
    except ValidationError as error:
        for name, messages in error.messages_dict.items():
            is_known = name in schema.fields
            text = (
                " ".join(map(str, messages))
                if is_known
                else f"is unknown; known are {', '.join(known) or 'none'}"
            )
            errors.append(ParameterError(parameter=str(name)[:100], message=text))
    if errors:
        raise bad_request(errors, known_parameters=known)
    return loaded


def _check_window(first: date, last: date, window: MartWindow) -> None:
    if first > last:
        raise bad_request(
            [ParameterError(parameter="from", message=f"{first} is after to, {last}; swap them")]
        )
    days = (last - first).days + 1
    if days > window.max_days:
        message = (
            f"the window {first} to {last} has {days} days; at most {window.max_days} are served"
        )
        raise bad_request(
            [ParameterError(parameter="from", message=message)], max_days=window.max_days
        )


def _shown(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:40] + "...")


def _shift(day: date, days: int) -> date:
    """The day so many days on, kept inside what a date can say."""
    try:
        return day + timedelta(days=days)
    except OverflowError:
        return date.max if days > 0 else date.min


def _weeks_of(year: int) -> int:
    return date(year, 12, 28).isocalendar().week


def _from_text(window: MartWindow) -> str:
    what = (
        "The first day, inclusive" if window.kind == "day" else "Weeks whose Monday is not before"
    )
    return f"{what}; without it, {window.default_days} days up to `to`."


def _to_text(window: MartWindow) -> str:
    what = "The last day, inclusive" if window.kind == "day" else "Weeks whose Monday is not after"
    return (
        f"{what}, at most {window.max_days} days from `from`; without it, {window.default_days}"
        " days from `from`; without both the window ends at the day of data_through."
    )
