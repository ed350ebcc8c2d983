"""How the text of a field becomes a value: strict, exact, the same whatever the file's format.

A conversion gives NULL for text that is no such value. Its text is canonical (1.50 is 1.5, 2026-1-5
is 2026-01-05): the same record from a CSV and a Parquet file has one content hash and one key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runner.landing.errors import LandingError
from warehouse.declared import Column
from warehouse.raw_tables import canonical_type

_ISO_DATES = ("%Y-%m-%d",)
_ISO_NAIVE = (
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%dT%H:%M:%S.%f",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M:%S.%f",
    "%Y-%m-%d",
)
_ISO_ZONED = tuple(f"{form}%z" for form in _ISO_NAIVE[:4])
_MAX_DIGITS = 100
_INTEGERS = {"smallint": "smallint", "integer": "integer", "bigint": "bigint"}
_TRUE = ("true", "t", "yes", "y", "1")
_FALSE = ("false", "f", "no", "n", "0")
_UTC = ("UTC", "Etc/UTC", "Z", "GMT", "Etc/GMT")


@dataclass(frozen=True, kw_only=True)
class Value:
    """A conversion: SQL over the raw text, what to say when it fails, and what it gives."""

    sql: str
    complaint: str
    is_text: bool = False
    is_number: bool = False
    is_moment: bool = False


def literal(text: str) -> str:
    """Text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def stored_text(value: Value, converted: str) -> str:
    """The converted value as the text that PostgreSQL, hash and key take; a time is in UTC."""
    return f"{converted}::varchar" if value.is_moment else converted


def convert(
    column: Column,
    raw: str,
    *,
    zone: str | None,
    place: str,
    file_type: str = "",
    can_hold_nul: bool = True,
    max_bytes: int,
) -> Value:
    """The conversion of a declared column from its text `raw`.

    `file_type` is the column's type in a typed file (Parquet), which fixes how its text looks.
    """
    base, _, arguments = canonical_type(column.data_type).partition("(")
    if base == "text":
        nul = f" and not contains({raw}, chr(0))" if can_hold_nul else ""
        return Value(
            sql=f"case when strlen({raw}) <= {max_bytes}{nul} then {raw} end",
            complaint="can't be stored",
            is_text=True,
        )
    if base in _INTEGERS:
        return _integer(raw, base)
    if base == "numeric":
        return _numeric(raw, arguments.rstrip(")"))
    if base == "double precision":
        return Value(
            sql=f"case when isfinite(try_cast({raw} as double)) "
            f"then try_cast({raw} as double)::varchar end",
            complaint="is not a number",
            is_number=True,
        )
    if base == "boolean":
        return _boolean(raw)
    if base == "date":
        return _date(column, raw, file_type)
    if base == "timestamp with time zone":
        return _timestamp(column, raw, zone, place, file_type)
    raise LandingError(f"{place}, column {column.name}: type {column.data_type} can't be landed")


def _integer(raw: str, base: str) -> Value:
    cast = f"try_cast({raw} as {_INTEGERS[base]})::varchar"
    return Value(
        sql=f"case when {cast} = {raw} then {raw} "
        f"when regexp_full_match({raw}, '[+-]?[0-9]{{1,30}}') then {cast} end",
        complaint="is not an integer" if base == "bigint" else f"is not an integer of type {base}",
        is_number=True,
    )


def _numeric(raw: str, arguments: str) -> Value:
    """Canonical already, or digits to be trimmed, or with an exponent, which is kept."""
    plain = f"(0|[1-9][0-9]{{0,{_MAX_DIGITS}}})(\\.[0-9]{{0,{_MAX_DIGITS}}}[1-9])?"
    digits = (
        f"[+-]?([0-9]{{1,{_MAX_DIGITS}}}(\\.[0-9]{{0,{_MAX_DIGITS}}})?|\\.[0-9]{{1,{_MAX_DIGITS}}})"
    )
    complaint = "is not a number"
    trimmed = f"case when contains({raw}, '.') then rtrim(rtrim({raw}, '0'), '.') else {raw} end"
    unsigned = f"ltrim(ltrim({trimmed}, '+-'), '0')"
    whole = (
        f"case when {unsigned} = '' then '0' when {unsigned}[1] = '.' then '0' || {unsigned} "
        f"else {unsigned} end"
    )
    sign = f"case when {raw}[1] = '-' and ({whole}) <> '0' then '-' else '' end"
    result = (
        f"case when regexp_full_match({raw}, '{plain}|-[1-9][0-9]{{0,{_MAX_DIGITS}}}') then {raw} "
        f"when regexp_full_match({raw}, '{digits}') then ({sign}) || ({whole}) "
        f"when regexp_full_match({raw}, '{digits}[eE][+-]?[0-9]{{1,2}}') then upper({raw}) end"
    )
    if arguments:
        precision, scale = (int(part) for part in arguments.split(","))
        fits = f"-?[0-9]{{0,{max(precision - scale, 1)}}}(\\.[0-9]{{1,{max(scale, 1)}}})?"
        if scale == 0:
            fits = f"-?[0-9]{{0,{precision}}}"
        result = f"case when regexp_full_match({result}, '{fits}') then {result} end"
        complaint = f"is not a number that fits numeric({precision},{scale})"
    return Value(sql=result, complaint=complaint, is_number=True)


def _boolean(raw: str) -> Value:
    def any_of(words: Sequence[str]) -> str:
        return ", ".join(literal(word) for word in words)

    return Value(
        sql=f"case when lower({raw}) in ({any_of(_TRUE)}) then 'true' "
        f"when lower({raw}) in ({any_of(_FALSE)}) then 'false' end",
        complaint="is not true or false",
    )


def _date(column: Column, raw: str, file_type: str) -> Value:
    formats = column.formats or _ISO_DATES
    if file_type.startswith(("DATE", "TIMESTAMP")):
        formats = (*_ISO_NAIVE, *_ISO_ZONED)
    naive = [form for form in formats if "%z" not in form]
    zoned = [form.replace("%z", "") for form in formats if "%z" in form]
    bare = f"regexp_replace({raw}, '(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$', '')"
    attempts = [_parsed(text, forms) for text, forms in ((raw, naive), (bare, zoned)) if forms]
    parsed = f"coalesce({', '.join(attempts)})"
    return Value(
        sql=f"({_bounded(parsed)})::date::varchar",
        complaint=f"is not a date like {' or '.join(formats)}",
    )


def _timestamp(column: Column, raw: str, zone: str | None, place: str, file_type: str) -> Value:
    """A naive timestamp in UTC. Zones in the data win; a naive time needs a declared zone."""
    formats = column.formats or (*_ISO_NAIVE[:4], *_ISO_ZONED)
    if file_type.startswith(("DATE", "TIMESTAMP")):
        formats = _ISO_ZONED if "TIME ZONE" in file_type else _ISO_NAIVE
    zoned = [form for form in formats if "%z" in form]
    in_utc = [form for form in formats if form.endswith("Z")]
    naive = [form for form in formats if form not in zoned and form not in in_utc]
    attempts: list[str] = []
    if zoned:
        bare = [form.replace("%z", "") for form in zoned]
        attempts.append(
            f"case when {raw}[-1] = 'Z' then {_parsed(f'{raw}[:-2]', bare)} "
            f"else timezone('UTC', {_parsed(raw, zoned)}) end"
        )
    if in_utc:
        attempts.append(_parsed(raw, in_utc))
    if naive and not zone and not column.formats and not file_type:
        naive = []
    if naive:
        if not zone:
            raise LandingError(
                f"{place}, column {column.name}: its formats have no zone and none is declared; "
                "add `zone:` to the column, table or engine, or %z to the formats"
            )
        local = _parsed(raw, naive)
        attempts.append(
            local if zone in _UTC else f"timezone('UTC', timezone({literal(zone)}, {local}))"
        )
    return Value(
        sql=_bounded(f"coalesce({', '.join(attempts)})"),
        complaint=f"is not a time like {' or '.join(formats)}",
        is_moment=True,
    )


def _bounded(moment: str) -> str:
    """Years of four digits only: strptime takes 22-10-09 for the year 22."""
    return f"case when year({moment}) between 1000 and 9999 then {moment} end"


def _parsed(text: str, formats: Sequence[str]) -> str:
    """The first format that fits. One call each: given a list with %z, DuckDB 2.0 takes days that
    don't exist (February 30 becomes March 2)."""
    calls = ", ".join(f"try_strptime({text}, {literal(form)})" for form in formats)
    return f"coalesce({calls})"
