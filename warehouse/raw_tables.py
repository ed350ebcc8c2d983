"""Raw tables, made and extended from the declarations: dbt and landing find every one of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal

from warehouse.catalogue import Column, SourceTable
from warehouse.errors import OversightError

FIXED_COLUMNS = {
    "row_id": "bigint generated always as identity",
    "organization_id": "text not null",
    "record_key": "text not null",
    "batch_id": "bigint not null",
    "record_version": "bigint not null default 0",
    "extracted_at": "timestamptz not null",
    "content_hash": "uuid not null",
    "is_void": "boolean not null default false",
}
_TYPE_NAMES = {
    "bool": "boolean",
    "int2": "smallint",
    "int4": "integer",
    "int": "integer",
    "int8": "bigint",
    "decimal": "numeric",
    "float8": "double precision",
    "timestamptz": "timestamp with time zone",
}
SUPPORTED_TYPES = frozenset(
    (
        "text",
        "boolean",
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "double precision",
        "date",
        "timestamp with time zone",
    )
)
_LOCK_NAME = "oversight.raw_tables"


class RawTableError(OversightError):
    """A declaration and the table made from it don't fit; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class _Existing:
    columns: dict[str, str]
    indexes: frozenset[str]


def canonical_type(data_type: str) -> str:
    """PostgreSQL's own name of a declared type, as format_type() gives it."""
    text = re.sub(r"\s+", " ", data_type.strip().lower())
    name, _, arguments = text.partition("(")
    name = _TYPE_NAMES.get(name.strip(), name.strip())
    if not arguments:
        return name
    parts = [part.strip() for part in arguments.rstrip(") ").split(",")]
    if name == "numeric" and len(parts) == 1:
        parts.append("0")
    return f"{name}({','.join(parts)})"


def payload_columns(table: SourceTable) -> tuple[Column, ...]:
    """The declared columns that the raw table holds beside the fixed ones.

    A declared organization column of the name `organization_id` is the fixed column itself.
    """
    return tuple(
        column
        for column in table.columns
        if not (column.name == "organization_id" == table.organization_column)
    )


def ensure_raw_tables(connection: Connection, tables: Sequence[SourceTable]) -> list[str]:
    """Make what is missing and return what was done; commits. Costs one query when nothing is.

    Raises RawTableError for a changed type or a removed column, before anything is changed.
    """
    with connection, connection.cursor() as cursor:
        if not _plan(cursor, tables):
            return []
        cursor.execute("set local role oversight_raw")
        cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (_LOCK_NAME,))
        steps = _plan(cursor, tables)
        for _, statement in steps:
            cursor.execute(statement)
        cursor.execute("reset role")
    return [text for text, _ in steps]


def _plan(cursor: Cursor, tables: Sequence[SourceTable]) -> list[tuple[str, Composable]]:
    """What has to be done, as pairs of a line for people and a statement."""
    existing = _existing_tables(cursor, [table.relation for table in tables])
    problems: list[str] = []
    steps: list[tuple[str, Composable]] = []
    for table in tables:
        problems += _declaration_problems(table)
        found = existing.get(table.relation)
        if found is None:
            steps += _creation(table)
        else:
            problems += _misfits(table, found)
            steps += _extension(table, found)
        names = found.indexes if found else frozenset()
        for name, definition in _indexes(table, tables):
            if name not in names:
                statement = SQL("create index {} on {} {}").format(
                    Identifier(name), _qualified(table), definition
                )
                steps.append((f"index {name}", statement))
    if problems:
        raise RawTableError("\n".join(problems))
    return steps


def _existing_tables(cursor: Cursor, relations: Iterable[str]) -> dict[str, _Existing]:
    cursor.execute(
        """
        select
            c.relname,
            (
                select json_object_agg(a.attname, format_type(a.atttypid, a.atttypmod))
                from pg_attribute as a
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            ),
            array(
                select i.relname::text
                from pg_index as x join pg_class as i on i.oid = x.indexrelid
                where x.indrelid = c.oid
            )
        from pg_class as c
        where c.relnamespace = 'staging'::regnamespace and c.relkind = 'r' and c.relname = any(%s)
        """,
        (list(relations),),
    )
    return {
        name: _Existing(columns=columns, indexes=frozenset(indexes))
        for name, columns, indexes in cursor.fetchall()
    }


def _declaration_problems(table: SourceTable) -> list[str]:
    problems = []
    for column in payload_columns(table):
        place = f"source {table.engine}.{table.name}, column {column.name}"
        base = canonical_type(column.data_type).partition("(")[0]
        if base not in SUPPORTED_TYPES:
            problems.append(
                f"{place}: type {column.data_type} can't be landed; declare one of "
                f"{', '.join(sorted(SUPPORTED_TYPES))}"
            )
        if column.name in FIXED_COLUMNS:
            problems.append(f"{place}: every raw table has a column of that name; land another one")
    return problems


def _misfits(table: SourceTable, found: _Existing) -> list[str]:
    problems = []
    declared = {column.name: canonical_type(column.data_type) for column in payload_columns(table)}
    place = f"staging.{table.relation}"
    for name, data_type in found.columns.items():
        if name in FIXED_COLUMNS:
            continue
        if name not in declared:
            problems.append(
                f"{place} has the column {name}, which source {table.engine}.{table.name} no "
                f"longer declares: declare it again ({data_type}), or drop it on purpose with a "
                f"migration (alter table {place} drop column {name})"
            )
        elif declared[name] != data_type:
            problems.append(
                f"{place}.{name} is {data_type}, but source {table.engine}.{table.name} declares "
                f"{declared[name]}: declare {data_type} again, declare the new type under a new "
                f"name, or convert it on purpose with a migration (alter table {place} "
                f"alter column {name} type {declared[name]})"
            )
    return problems


def _creation(table: SourceTable) -> list[tuple[str, Composable]]:
    name = _qualified(table)
    definitions = [
        SQL("{} {}").format(Identifier(column), SQL(definition))
        for column, definition in FIXED_COLUMNS.items()
    ] + [
        SQL("{} {}").format(Identifier(column.name), SQL(canonical_type(column.data_type)))
        for column in payload_columns(table)
    ]
    statements: list[Composable] = [
        SQL("create table {} ({})").format(name, SQL(", ").join(definitions)),
        SQL("comment on table {} is {}").format(name, Literal(table.description)),
        SQL("alter table {} enable row level security").format(name),
        SQL("grant select on {} to oversight_owner").format(name),
        SQL("grant select, insert on {} to oversight_loader").format(name),
        SQL("grant select, delete on {} to oversight_retention").format(name),
        SQL(
            "create policy oversight_owner on {} for select to oversight_owner using (true)"
        ).format(name),
        SQL("create policy loader_reads on {} for select to oversight_loader using (true)").format(
            name
        ),
        SQL(
            "create policy loader_adds on {} for insert to oversight_loader with check (true)"
        ).format(name),
        SQL("create policy oversight_retention on {} to oversight_retention using (true)").format(
            name
        ),
        SQL(
            "create trigger is_append_only before update or delete or truncate on {} "
            "for each statement execute function metadata.refuse_change()"
        ).format(name),
    ]
    statements += [_column_comment(table, column) for column in payload_columns(table)]
    text = f"raw table staging.{table.relation}"
    return [(text, SQL("; ").join(statements))]


def _extension(table: SourceTable, found: _Existing) -> list[tuple[str, Composable]]:
    steps: list[tuple[str, Composable]] = []
    for column in payload_columns(table):
        if column.name not in found.columns:
            statement = SQL("alter table {} add column {} {}; {}").format(
                _qualified(table),
                Identifier(column.name),
                SQL(canonical_type(column.data_type)),
                _column_comment(table, column),
            )
            steps.append((f"column staging.{table.relation}.{column.name}", statement))
    return steps


def _column_comment(table: SourceTable, column: Column) -> Composable:
    return SQL("comment on column {}.{} is {}").format(
        _qualified(table), Identifier(column.name), Literal(column.description)
    )


def _indexes(table: SourceTable, tables: Sequence[SourceTable]) -> list[tuple[str, Composable]]:
    """The newest version of a key, the rows of a batch, the ways between children and parents,
    and for snapshots the records of a window."""
    indexes: dict[str, Composable] = {
        "newest": SQL(
            "(record_key, record_version desc, extracted_at desc, batch_id desc, row_id desc)"
        ),
        "batch": SQL("(batch_id)"),
    }
    ways = {column.name for column in table.columns if column.parent}
    for other in tables:
        if other.engine == table.engine:
            for column in other.columns:
                parent, _, name = (column.parent or "").rpartition(".")
                if parent == table.name:
                    ways.add(name)
    for name in sorted(ways):
        indexes[f"way_{name}"] = SQL("({})").format(Identifier(name))
    if table.mode == "snapshot" and table.date_column:
        indexes["window"] = SQL("(organization_id, {})").format(Identifier(table.date_column))
    return [(_index_name(table.relation, key), value) for key, value in indexes.items()]


def _index_name(relation: str, key: str) -> str:
    """At most 63 bytes and the same on every run; the hash keeps shortened names apart."""
    name = f"{relation}__{key}"
    if len(name.encode()) <= 63:
        return name
    return f"{relation[:40]}__{hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:16]}"


def _qualified(table: SourceTable) -> Identifier:
    return Identifier("staging", table.relation)
