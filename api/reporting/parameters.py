"""Query parameters of a mart, as marshmallow schemas made from its declaration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any

from marshmallow import RAISE, Schema, ValidationError
from werkzeug.datastructures import MultiDict

from api.problems import ParameterError, bad_request
from api.reporting.parameter_fields import Day, Names, Parameter, Token, Week, Whole, filter_field
from warehouse.catalogue import Mart, MartColumn, MartWindow

DEFAULT_PAGE_SIZE = 500
MAX_PAGE_SIZE = 5000
PAGING = ("page", "page_size")
NO_PARAMETERS: Schema = Schema.from_dict({}, name="no_parameters")(unknown=RAISE)


@dataclass(frozen=True, kw_only=True)
class Window:
    """The days asked for, both inclusive; None where the answer's data_through decides."""

    first: date | None
    last: date | None


@dataclass(frozen=True, kw_only=True)
class Request:
    """A checked read of one mart. `query` holds the parameters as sent, without paging.

    `columns` are those to show, in the mart's order; `page_size` is None where none was sent.
    """

    window: Window
    filters: Mapping[str, Any]
    columns: tuple[MartColumn, ...]
    page: str | None
    page_size: int | None
    query: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class MartParameters:
    """What one mart may be asked."""

    mart: Mart

    @property
    def organization_column(self) -> str:
        """The column that is part of every key and shown to nobody."""
        return self.mart.scope.get("organization", "organization_id")

    @cached_property
    def columns(self) -> tuple[MartColumn, ...]:
        """The columns that may be shown, in the mart's order."""
        return tuple(c for c in self.mart.columns if c.name != self.organization_column)

    @cached_property
    def schema(self) -> Schema:
        """The schema; unknown parameters are refused."""
        declared: dict[str, Parameter] = {}
        window = self.mart.window
        if window is not None:
            if window.kind == "week":
                declared["week"] = Week(
                    description="One ISO week, YYYY-Www, instead of `from` and `to`."
                )
            declared["from"] = Day(description=_from_text(window))
            declared["to"] = Day(description=_to_text(window))
        for name in self.mart.filters:
            declared[name] = filter_field(self.mart.column(name))
        declared["fields"] = Names(
            known=[column.name for column in self.columns],
            description="Only these columns, with commas between; without it, all of them.",
        )
        declared["page"] = Token(
            description="The next_page of the answer before, with the same query."
        )
        declared["page_size"] = Whole(
            least=1,
            most=MAX_PAGE_SIZE,
            description=(
                f"Rows per page, at most {MAX_PAGE_SIZE}; without it, {DEFAULT_PAGE_SIZE} in JSON"
                " and the whole window in CSV and NDJSON."
            ),
        )
        schema: Schema = Schema.from_dict(dict(declared), name=f"{self.mart.name}_parameters")()
        schema.unknown = RAISE
        return schema

    def request(self, arguments: MultiDict[str, str]) -> Request:
        """The request that query arguments make; a problem (400) names every wrong parameter."""
        if len(named := arguments.getlist("fields")) > 1:
            # Many generated clients repeat the parameter, whatever the document says.
            arguments = MultiDict(arguments)
            arguments["fields"] = ",".join(named)
        values = load(self.schema, arguments)
        return Request(
            window=self._window(values),
            filters={name: values[name] for name in self.mart.filters if name in values},
            columns=self._shown(values.get("fields")),
            page=values.get("page"),
            page_size=values.get("page_size"),
            query=tuple(sorted(pair for pair in arguments.items() if pair[0] not in PAGING)),
        )

    def _shown(self, names: tuple[str, ...] | None) -> tuple[MartColumn, ...]:
        return tuple(c for c in self.columns if names is None or c.name in names)

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
    """Check arguments by a schema; a problem (400) names the wrong ones and what is known.

    Each by its own field: none is required or has a default, and a whole schema takes five times
    as long.
    """
    fields = schema.fields
    errors: list[ParameterError] = []
    loaded: dict[str, Any] = {}
    for name, values in arguments.lists():
        field = fields.get(name)
        if field is None:
            message = f"is unknown; known are {', '.join(sorted(fields)) or 'none'}"
        elif len(values) > 1:
            message = "is given more than once"
        else:
            try:
                loaded[name] = field.deserialize(values[0])
            except ValidationError as error:
                message = " ".join(map(str, error.messages))
            else:
                continue
        errors.append(ParameterError(parameter=name[:100], message=message))
    if errors:
        raise bad_request(errors, known_parameters=sorted(fields))
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


def _shift(day: date, days: int) -> date:
    """The day so many days on, kept inside what a date can say."""
    try:
        return day + timedelta(days=days)
    except OverflowError:
        return date.max if days > 0 else date.min


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
