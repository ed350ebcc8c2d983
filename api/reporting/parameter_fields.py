"""What a query parameter may hold: marshmallow fields that check it and describe it for OpenAPI."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validate

from warehouse.catalogue import MartColumn

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WEEK = re.compile(r"([0-9]{4})-W([0-9]{2})")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,20})?")
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,6000}")
_UNFIT_TEXT = re.compile("[\x00-\x1f\x7f\ufffd]")
_LONGEST_TEXT = 500
_LARGEST_WHOLE = 10**18 - 1


class Parameter(fields.Field[Any]):
    """A field whose JSON schema is `described`, as far as a schema can say what it accepts."""

    described: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self, *, description: str, described: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        described = self.described if described is None else described
        super().__init__(metadata={"description": description, **described}, **kwargs)


class Day(Parameter):
    """A calendar day, YYYY-MM-DD and nothing else that ISO 8601 allows."""

    described: ClassVar = {"type": "string", "format": "date"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> date:
        if not _DAY.fullmatch(value):
            raise ValidationError(f"{_shown(value)} is not a day; write YYYY-MM-DD")
        try:
            return date.fromisoformat(value)
        except ValueError as error:
            raise ValidationError(f"{_shown(value)} is a day that does not exist") from error


class Week(Parameter):
    """An ISO week, YYYY-Www, as the date of its Monday."""

    described: ClassVar = {
        "type": "string",
        "format": "iso-week",
        "pattern": "^[0-9]{4}-W(0[1-9]|[1-4][0-9]|5[0-3])$",
    }

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


class Text(Parameter):
    """Text as it may be compared with a column; empty is refused, it would restrict nothing."""

    described: ClassVar = {
        "type": "string",
        "minLength": 1,
        "maxLength": _LONGEST_TEXT,
        "pattern": r"^[^\u0000-\u001f\u007f\ufffd]+$",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not value:
            raise ValidationError("is empty; give a value or leave the parameter out")
        if len(value) > _LONGEST_TEXT or _UNFIT_TEXT.search(value):
            raise ValidationError("is no usable text: over 500 characters, or not printable UTF-8")
        return str(value)


class Choice(Parameter):
    """One of the values that a column's test accepts."""

    def __init__(self, *, known: Sequence[str], **kwargs: Any) -> None:
        self.known = tuple(known)
        super().__init__(described={"type": "string", "enum": list(known)}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if value not in self.known:
            raise ValidationError(f"{_shown(value)} is none of {', '.join(self.known)}")
        return str(value)


class Token(Parameter):
    """An opaque token; its own check comes later, with the query that it belongs to."""

    described: ClassVar = {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,6000}$"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not _TOKEN.fullmatch(value):
            raise ValidationError("is no page token; use the next_page of the answer before")
        return str(value)


class Whole(Parameter):
    """A whole number in digits."""

    described: ClassVar = {"type": "integer", "format": "int64"}

    def __init__(
        self, *, least: int = -_LARGEST_WHOLE, most: int = _LARGEST_WHOLE, **kwargs: Any
    ) -> None:
        bounds = {"minimum": least, "maximum": most}
        super().__init__(
            described={**self.described, **bounds},
            validate=validate.Range(min=least, max=most),
            **kwargs,
        )

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not _WHOLE.fullmatch(value):
            raise ValidationError(f"{_shown(value)} is not a whole number")
        return int(value)


class Number(Parameter):
    """A decimal number in digits."""

    described: ClassVar = {"type": "number"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Decimal:
        if not _NUMBER.fullmatch(value):
            raise ValidationError(f"{_shown(value)} is not a number")
        return Decimal(value)


class Flag(Parameter):
    """true or false."""

    described: ClassVar = {"type": "boolean"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if value not in ("true", "false"):
            raise ValidationError(f"{_shown(value)} is neither true nor false")
        return bool(value == "true")


class Names(Parameter):
    """Some of the names that there are, with commas between; given back in their own order."""

    def __init__(self, *, known: Sequence[str], **kwargs: Any) -> None:
        self.known = tuple(known)
        described = {
            "type": "array",
            "items": {"type": "string", "enum": list(known)},
            "minItems": 1,
            "uniqueItems": True,
        }
        super().__init__(described=described, **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, **kwargs: Any
    ) -> tuple[str, ...]:
        names = value.split(",")
        unknown = [_shown(name) for name in dict.fromkeys(names) if name not in self.known]
        if unknown:
            raise ValidationError(
                f"{', '.join(unknown[:5])} is no column of this mart; known are"
                f" {', '.join(self.known)}"
            )
        if len(set(names)) < len(names):
            raise ValidationError("names a column twice")
        return tuple(name for name in self.known if name in names)


_FIELD_OF_TYPE: Mapping[str, type[Parameter]] = {
    "date": Day,
    "smallint": Whole,
    "integer": Whole,
    "int": Whole,
    "bigint": Whole,
    "numeric": Number,
    "boolean": Flag,
}


def filter_field(column: MartColumn) -> Parameter:
    """The field of a filter on a column."""
    description = f"Only rows with this {column.name}."
    kind = _FIELD_OF_TYPE.get(column.data_type.split("(")[0], Text)
    if column.values and kind is Text:
        return Choice(known=column.values, description=description)
    return kind(description=description)


def _shown(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:40] + "...")


def _weeks_of(year: int) -> int:
    return date(year, 12, 28).isocalendar().week
