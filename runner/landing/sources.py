"""The first step of reading: DuckDB's SQL that gives a file's fields as text, whatever its format.

Each source gives `record_number`, the fields `r0`, `r1`, ... (empty is NULL), and, for a record
that is none, `parse_error` and its text `unparsed`. What the CSV reader refuses goes into the
rejects table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runner.landing.extracts import Extract, Format
from runner.landing.values import Value, literal, quote, stored_text
from warehouse.declared import Column

MAX_LINE_BYTES = 4 << 20
MAX_UNPARSED = 50_000
KEPT_CHARACTERS = 2000


@dataclass(frozen=True, kw_only=True)
class Field:
    """A column of the file that landing uses: its raw text `r<n>` and converted value `v<n>`."""

    column: Column
    value: Value
    is_present: bool
    raw: str
    converted: str

    @property
    def text(self) -> str:
        """The converted value as text."""
        return stored_text(self.value, self.converted)


def _csv_source(extract: Extract, fields: Sequence[Field], path: str, rejects: str) -> str:
    names = ", ".join(f"'c{number}': 'varchar'" for number in range(len(extract.columns)))
    chosen = ", ".join(
        f"c{extract.columns.index(field.column.name)} as {field.raw}"
        if field.is_present
        else f"null::varchar as {field.raw}"
        for field in fields
    )
    return f"""
        select row_number() over () as record_number, {chosen},
            null::varchar as parse_error, null::varchar as unparsed
        from read_csv({literal(path)}, auto_detect = false, header = true, strict_mode = true,
            quote = '"', escape = '"', delim = {literal(extract.table.delimiter)},
            columns = {{{names}}},
            {_text_options(extract, rejects)})
    """


def _text_options(extract: Extract, rejects: str) -> str:
    return (
        f"encoding = {literal(extract.table.encoding)}, max_line_size = {MAX_LINE_BYTES}, "
        f"store_rejects = true, rejects_limit = {MAX_UNPARSED}, "
        f"rejects_table = {literal(rejects)}, rejects_scan = {literal(rejects + '_scans')}"
    )


def _jsonl_source(extract: Extract, fields: Sequence[Field], path: str, rejects: str) -> str:
    """Numbers of many digits are taken from the line itself: DuckDB reads them as floats."""
    present = [field for field in fields if field.is_present]
    paths = ", ".join(literal(_json_path(field.column.name)) for field in present)
    chosen = []
    for field in fields:
        if not field.is_present:
            chosen.append(f"null::varchar as {field.raw}")
            continue
        value = f"values[{present.index(field) + 1}]"
        if field.value.is_number:
            pattern = f'"{field.column.name}"\\s*:\\s*(-?[0-9][0-9.eE+-]*)'
            written = f"regexp_extract(line, {literal(pattern)}, 1)"
            value = (
                f"case when strlen({value}) > 15 and try_cast({written} as double) = "
                f"try_cast({value} as double) then {written} else {value} end"
            )
        chosen.append(f"nullif({value}, '') as {field.raw}")
    return f"""
        select record_number, {", ".join(chosen)},
            case when not is_object then 'the line is no JSON object' end as parse_error,
            case when not is_object then left(replace(line, chr(0), '\\0'), {KEPT_CHARACTERS}) end
                as unparsed
        from (
            select record_number, line, is_object,
                json_extract_string(case when is_object then line else '{{}}' end, [{paths}])
                    as values
            from (
                select row_number() over () as record_number, line,
                    case when json_valid(line) then json_type(line) = 'OBJECT' else false end
                        as is_object
                from read_csv({literal(path)}, auto_detect = false, header = false, quote = '',
                    escape = '', delim = chr(2), columns = {{'line': 'varchar'}},
                    strict_mode = false, {_text_options(extract, rejects)})
                where trim(line) <> ''
            )
        )
    """


def _json_path(name: str) -> str:
    return '$."' + name.replace('"', '\\"') + '"'


def _parquet_source(extract: Extract, fields: Sequence[Field], path: str, _rejects: str) -> str:
    chosen = []
    for field in fields:
        text = "null::varchar"
        if field.is_present:
            name = quote(field.column.name)
            kind = extract.types[extract.columns.index(field.column.name)]
            is_nested = kind.endswith("]") or kind.startswith(("STRUCT", "MAP"))
            text = f"nullif({f'to_json({name})' if is_nested else name}::varchar, '')"
        chosen.append(f"{text} as {field.raw}")
    return f"""
        select row_number() over () as record_number, {", ".join(chosen)},
            null::varchar as parse_error, null::varchar as unparsed
        from read_parquet({literal(path)})
    """


SOURCES: dict[Format, Callable[[Extract, Sequence[Field], str, str], str]] = {
    "csv": _csv_source,
    "jsonl": _jsonl_source,
    "parquet": _parquet_source,
}
