"""What every table of a warehouse holds, so that a copy can be held against it."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

SCHEMAS = ("staging", "curated", "reporting", "metadata")
# A row's text depends on these.
SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "row_security": "off",
}


@dataclass(frozen=True, kw_only=True)
class TableContent:
    """How many rows, and a sum over the hashes of their text that no order changes."""

    rows: int
    checksum: str


Contents = dict[str, TableContent]
"""By `schema.table`."""


def table_names(cursor: Cursor) -> list[tuple[str, str]]:
    """Schema and name of every table of the four schemas."""
    cursor.execute(
        "select n.nspname, c.relname from pg_class as c "
        "join pg_namespace as n on n.oid = c.relnamespace "
        "where n.nspname = any(%s) and c.relkind in ('r', 'p') order by 1, 2",
        (list(SCHEMAS),),
    )
    return [(schema, name) for schema, name in cursor.fetchall()]


def set_session(cursor: Cursor) -> None:
    """Make rows read the same on any server; rows hidden by a policy become an error."""
    for name, value in SESSION.items():
        cursor.execute(SQL("set {} = %s").format(Identifier(name)), (value,))


def table_content(cursor: Cursor, schema: str, name: str) -> TableContent:
    """Count and checksum of one table, in the transaction that is open."""
    cursor.execute(SQL("select {}").format(SQL(content_query(schema, name))))
    row = cursor.fetchone()
    assert row is not None
    rows, _, checksum = str(row[0]).partition(" ")
    return TableContent(rows=int(rows), checksum=checksum)


def content_query(schema: str, name: str) -> str:
    """SQL of an expression: count and checksum of a table as one text."""
    table = f'"{schema}"."{name}"'.replace("%", "%%")
    return (
        "(select count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) "
        f"from {table} as t)"
    )
