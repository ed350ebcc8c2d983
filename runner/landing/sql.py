"""The SQL by which DuckDB turns a file's records into rows to land, one statement per file.

Each record becomes: file and record number, organization, key, version, content hash, whether it is
void, what is wrong with it, the record itself when something is, and its columns as text that
PostgreSQL reads exactly. Everything is decided on text: DuckDB's own casts round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from runner.landing.errors import LandingError
from runner.landing.extracts import Extract
from runner.landing.sources import KEPT_CHARACTERS, SOURCES, Field
from runner.landing.values import (
    convert,
    literal,
    quote,
)
from warehouse.declared import Column, SourceTable
from warehouse.raw_tables import canonical_type, payload_columns

MAX_FIELD_BYTES = 1 << 20
MAX_ID_BYTES = 500
MAX_KEY_BYTES = 2000
REASON_SEPARATOR = "\x1e"
LANDED_COLUMNS = (
    ("file_number", "integer"),
    ("record_number", "bigint"),
    ("organization_id", "text"),
    ("record_key", "text"),
    ("record_version", "bigint"),
    ("content_hash", "uuid"),
    ("is_void", "boolean"),
    ("as_of", "timestamptz"),
    ("window_from", "date"),
    ("window_to", "date"),
    ("reasons", "text"),
    ("record", "text"),
)
_EXCERPT_CHARACTERS = 60
_TAG_CHARACTERS = 4


def fields_of(table: SourceTable) -> tuple[Column, ...]:
    """The declared columns and the organization's, which need not be declared."""
    names = {column.name for column in table.columns}
    extra: tuple[Column, ...] = ()
    if table.organization_column and table.organization_column not in names:
        extra = (Column(name=table.organization_column, data_type="text", description=""),)
    return (*table.columns, *extra)


def select_records(
    extract: Extract, *, path: str, file_number: int, currency: str, rejects: str
) -> str:
    """The statement that lands a file; what it can't parse goes into DuckDB's table `rejects`."""
    table = extract.table
    fields = _fields(extract)
    by_name = {field.column.name: field for field in fields}
    source = SOURCES[extract.format](extract, fields, path, rejects)
    converted = ", ".join(f"{field.value.sql} as {field.converted}" for field in fields)
    checks = [check for field in fields for check in _checks(extract, field, currency)]
    organization = (
        literal(table.organization_value or "")
        if table.organization_column is None
        else by_name[table.organization_column].text
    )
    key_parts = [_escaped(organization, table.organization_column is None)]
    key_parts += [_escaped(by_name[name].text, by_name[name].value.is_number) for name in table.key]
    key = " || '|' || ".join(key_parts)
    problem = " or ".join(f"({test})" for test, _ in checks)
    reasons = ", ".join(f"case when {test} then {message} end" for test, message in checks)
    payload = [by_name[column.name] for column in payload_columns(table)]
    columns = [
        str(file_number),
        "record_number",
        organization,
        "record_key",
        _version(table, by_name),
        f"md5({_content(fields)})",
        f"coalesce({by_name[table.void_column].text}, 'f')" if table.void_column else "'f'",
        by_name[table.as_of.column].text if table.as_of and table.as_of.column else "null",
        *_window_columns(table, by_name),
        "reasons",
        f"case when reasons is not null then {_record(fields)} end",
        *(field.text for field in payload),
    ]
    return f"""
        with source as ({source}),
        converted as (select *, {converted} from source),
        keyed as (select *, {key} as record_key from converted),
        checked as (
            select *, case when parse_error is not null then parse_error
                when {problem} or strlen(record_key) > {MAX_KEY_BYTES} then
                concat_ws(chr({ord(REASON_SEPARATOR)}), {reasons},
                    case when strlen(record_key) > {MAX_KEY_BYTES}
                        then 'the key is longer than {MAX_KEY_BYTES} bytes' end) end as reasons
            from keyed
        )
        select {", ".join(columns)} from checked
    """


def incoming_columns(table: SourceTable) -> list[tuple[str, str]]:
    """Names and types of what `select_records` gives; the file's own columns are prefixed `c_`."""
    return [
        *LANDED_COLUMNS,
        *(
            (f"c_{column.name}", canonical_type(column.data_type))
            for column in payload_columns(table)
        ),
    ]


def _fields(extract: Extract) -> list[Field]:
    fields = []
    for number, column in enumerate(fields_of(extract.table)):
        is_present = column.name in extract.columns
        kind = ""
        if extract.types and is_present:
            kind = extract.types[extract.columns.index(column.name)]
        can_hold_nul = extract.format != "csv" or extract.has_nul
        value = convert(
            column,
            f"r{number}",
            zone=column.zone or extract.table.zone,
            place=f"source {extract.table.engine}.{extract.table.name}",
            file_type=kind,
            can_hold_nul=can_hold_nul,
            max_bytes=MAX_FIELD_BYTES,
        )
        fields.append(
            Field(
                column=column,
                value=value,
                is_present=is_present,
                raw=f"r{number}",
                converted=f"v{number}",
            )
        )
    return fields


def _checks(extract: Extract, field: Field, currency: str) -> list[tuple[str, str]]:
    """Pairs of a condition and the reason to reject that it gives."""
    table, column = extract.table, field.column
    name = f'column "{column.name}"'
    checks = []
    if field.is_present:
        excerpt = (
            f"'\"' || left(replace({field.raw}, chr(0), '\\0'), {_EXCERPT_CHARACTERS}) || "
            f"case when length({field.raw}) > {_EXCERPT_CHARACTERS} then '...' else '' end || '\"'"
        )
        test = f"{field.raw} is not null and {field.converted} is null"
        message = f"{literal(name + ': ')} || {excerpt} || {literal(' ' + field.value.complaint)}"
        if field.value.is_text:
            message = (
                f"{literal(name + ' ')} || case when strlen({field.raw}) > {MAX_FIELD_BYTES} "
                f"then 'is ' || strlen({field.raw}) || ' bytes long, over {MAX_FIELD_BYTES}' "
                f"else 'holds a NUL byte' end"
            )
        checks.append((test, message))
    if column.is_required or column.name in _needed(table):
        checks.append((f"{field.raw} is null", literal(f"{name} is empty")))
    if field.value.is_text and _is_id(table, column):
        checks.append(
            (
                f"regexp_matches({field.converted}, '[,{{}}\"''\\\\\\x00-\\x1f\\x7f]') "
                f"or {field.converted} = '*'",
                f"{literal(name + ': ')} || to_json(left({field.converted}, {_EXCERPT_CHARACTERS}))"
                " || ' is no id: it holds a comma, brace, quote, backslash or control character,"
                " or is a star'",
            )
        )
        checks.append(
            (
                f"strlen({field.converted}) > {MAX_ID_BYTES}",
                literal(f"{name} is longer than {MAX_ID_BYTES} bytes, too long for an id"),
            )
        )
    if column.name == table.currency_column:
        checks.append(
            (
                f"{field.converted} <> {literal(currency)}",
                f"{literal(name + ': ')} || to_json(left({field.converted}, 20)) || "
                + literal(f" is not the reporting currency {currency}"),
            )
        )
    return checks


def _needed(table: SourceTable) -> set[str]:
    """Columns without which a record can't be placed."""
    names = {*table.key, table.organization_column, table.version_column, table.extracted_at}
    names.add(table.currency_column)
    if table.mode == "snapshot":
        names.add(table.date_column)
        names.add(table.as_of.column if table.as_of else None)
        if table.window:
            names |= {table.window.from_column, table.window.to_column}
    return {name for name in names if name}


def _is_id(table: SourceTable, column: Column) -> bool:
    """Whether scopes, keys or ways to parents are made of it."""
    return bool(
        column.scope
        or column.parent
        or column.name == table.organization_column
        or (column.name in table.key and (column.name == "id" or column.name.endswith("_id")))
    )


def _escaped(text: str, is_plain: bool) -> str:
    if is_plain:
        return text
    return f"replace(replace({text}, '\\', '\\\\'), '|', '\\|')"


def _version(table: SourceTable, by_name: dict[str, Field]) -> str:
    if table.version_column is None:
        return "0"
    field = by_name[table.version_column]
    if field.value.is_moment:
        return f"epoch_us({field.converted})"
    if canonical_type(field.column.data_type) in ("bigint", "integer", "smallint"):
        return field.converted
    raise LandingError(
        f"source {table.engine}.{table.name}: the version column {table.version_column} is "
        f"{field.column.data_type}; it must be a timestamptz, date or whole number"
    )


def _window_columns(table: SourceTable, by_name: dict[str, Field]) -> tuple[str, str]:
    window = table.window
    if window is None or window.from_column is None or window.to_column is None:
        return "null", "null"
    return by_name[window.from_column].text, by_name[window.to_column].text


def _content(fields: Sequence[Field]) -> str:
    """Tag and value of all that counts: a new column that is empty makes no new versions.

    Tags stand for names, as md5 is slow; they depend neither on the order nor on other columns,
    unless two of the table are alike.
    """
    counted = sorted(
        (field for field in fields if not field.column.is_volatile),
        key=lambda field: field.column.name,
    )
    tags = _tags([field.column.name for field in counted])
    parts = [f"{literal(tag)} || {field.text}" for tag, field in zip(tags, counted, strict=True)]
    return f"concat_ws(chr(31), {', '.join(parts)})"


def _tags(names: Sequence[str]) -> list[str]:
    """Short tags of one length, each its name's own."""
    digests = [hashlib.md5(name.encode(), usedforsecurity=False).hexdigest() for name in names]
    length = _TAG_CHARACTERS
    while len({digest[:length] for digest in digests}) < len(names):
        length += 1
    return [digest[:length] for digest in digests]


def _record(fields: Sequence[Field]) -> str:
    entries = ", ".join(
        f"{quote(field.column.name)} := case when length({field.raw}) > {KEPT_CHARACTERS} "
        f"then left({field.raw}, {KEPT_CHARACTERS}) || "
        f"'... (' || strlen({field.raw}) || ' bytes)' "
        f"else {field.raw} end"
        for field in fields
        if field.is_present
    )
    return f"coalesce(unparsed, to_json(struct_pack({entries}))::varchar)"
