"""Raw tables: made and extended from the declarations, append-only, never readable by default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
from landings import SPEND, TOTALS, column, with_columns
from psycopg2.extensions import connection as Connection

from warehouse import database
from warehouse.declared import SourceTable
from warehouse.raw_tables import RawTableError, canonical_type, ensure_raw_tables
from warehouse.settings import Settings

CHILD = replace(
    with_columns(SPEND, column("shop_id", parent="totals.day")),
    name="child",
    relation="shop__child",
)


@pytest.fixture
def connection(any_warehouse: Settings) -> Iterator[Connection]:
    connection = database.connect(any_warehouse)
    yield connection
    connection.close()


def rows(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def made(connection: Connection, *tables: SourceTable) -> list[str]:
    return ensure_raw_tables(connection, tables)


def columns_of(connection: Connection) -> Sequence[tuple[Any, ...]]:
    return rows(
        connection,
        "select attname, format_type(atttypid, atttypmod) from pg_attribute "
        "where attrelid = 'staging.shop__spend'::regclass and attnum > 0 and not attisdropped "
        "order by attnum",
    )


def test_every_declared_table_is_made_once(connection: Connection) -> None:
    done = made(connection, SPEND, TOTALS)
    assert "raw table staging.shop__spend" in done
    assert "raw table staging.shop__totals" in done
    assert made(connection, SPEND, TOTALS) == []
    assert columns_of(connection)[:8] == [
        ("row_id", "bigint"), ("organization_id", "text"), ("record_key", "text"),
        ("batch_id", "bigint"), ("record_version", "bigint"),
        ("extracted_at", "timestamp with time zone"), ("content_hash", "uuid"),
        ("is_void", "boolean"),
    ]  # fmt: skip
    assert rows(
        connection,
        "select rolname, relrowsecurity from pg_class join pg_roles on pg_roles.oid = relowner "
        "where relname = 'shop__spend'",
    ) == [("oversight_raw", True)]


def test_a_new_column_is_added_and_rows_stay(connection: Connection) -> None:
    made(connection, SPEND)
    insert(connection, "a")
    assert made(connection, with_columns(SPEND, column("extra", "numeric(6, 2)"))) == [
        "column staging.shop__spend.extra"
    ]
    assert columns_of(connection)[-1] == ("extra", "numeric(6,2)")
    assert rows(connection, "select id, extra from staging.shop__spend") == [("a", None)]


def test_a_changed_type_and_a_removed_column_are_errors_that_change_nothing(
    connection: Connection,
) -> None:
    made(connection, SPEND)
    before = columns_of(connection)
    kept = tuple(item for item in SPEND.columns if item.name != "note")
    changed = with_columns(replace(SPEND, columns=kept), column("clicks", "text"), column("more"))
    with pytest.raises(RawTableError) as error:
        made(connection, changed)
    assert "staging.shop__spend.clicks is bigint, but source shop.spend declares text" in str(
        error.value
    )
    assert "alter column clicks type text" in str(error.value)
    assert "staging.shop__spend has the column note" in str(error.value)
    assert "declare it again (text)" in str(error.value)
    assert columns_of(connection) == before


def test_a_type_that_cannot_be_landed_and_a_reserved_name_are_errors(
    connection: Connection,
) -> None:
    with pytest.raises(RawTableError, match="type jsonb can't be landed; declare one of bigint"):
        made(connection, with_columns(SPEND, column("extra", "jsonb")))
    with pytest.raises(RawTableError, match="every raw table has a column of that name"):
        made(connection, with_columns(SPEND, column("batch_id")))
    assert rows(connection, "select to_regclass('staging.shop__spend')") == [(None,)]


def test_a_declared_organization_id_is_the_column_that_every_table_has(
    connection: Connection,
) -> None:
    table = with_columns(
        SPEND,
        column("organization_id"),
        organization_value=None,
        organization_column="organization_id",
    )
    made(connection, table)
    assert [name for name, _ in columns_of(connection)].count("organization_id") == 1


def test_ways_between_parents_and_children_have_indexes(connection: Connection) -> None:
    made(connection, CHILD, TOTALS)
    made(connection, CHILD, TOTALS)
    definitions = [
        row[0].split(" USING btree ")[1]
        for row in rows(
            connection,
            "select indexdef from pg_indexes where schemaname = 'staging' "
            "and tablename in ('shop__child', 'shop__totals') order by indexname",
        )
    ]
    newest = "(record_key, record_version DESC, extracted_at DESC, batch_id DESC, row_id DESC)"
    assert definitions == [
        "(batch_id)", newest, "(shop_id)", "(batch_id)", newest, "(day)", "(organization_id, day)",
    ]  # fmt: skip


def test_long_names_give_short_indexes_that_differ(connection: Connection) -> None:
    first, second = (
        replace(SPEND, relation=f"shop__{'long' * 13}{end}", name=end) for end in ("a", "b")
    )
    made(connection, first, second)
    assert made(connection, first, second) == []


@pytest.mark.parametrize(
    "statement",
    [
        "update staging.shop__spend set note = 'x'",
        "delete from staging.shop__spend",
        "truncate staging.shop__spend",
        "update staging.shop__spend set note = 'x' where false",
    ],
)
def test_landed_rows_are_never_changed(connection: Connection, statement: str) -> None:
    """Not even by the administrator, whom no right stops."""
    made(connection, SPEND)
    insert(connection, "a")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="append-only"):
        rows(connection, statement)
    assert rows(connection, "select count(*) from staging.shop__spend") == [(1,)]


@pytest.mark.parametrize(
    ("role", "seen"),
    [("oversight_owner", 1), ("oversight_loader", 1), ("oversight_reader", None),
     ("oversight_analyst", None), ("oversight_api", None)],
)  # fmt: skip
def test_who_sees_raw_rows(connection: Connection, role: str, seen: int | None) -> None:
    made(connection, SPEND)
    insert(connection, "a")
    statement = f"set local role {role}; select count(*) from staging.shop__spend"
    if seen is None:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            rows(connection, statement)
    else:
        assert rows(connection, statement) == [(seen,)]


def test_types_are_compared_by_their_postgresql_names() -> None:
    assert canonical_type("INT") == "integer"
    assert canonical_type("timestamptz") == "timestamp with time zone"
    assert canonical_type("decimal(18, 6)") == "numeric(18,6)"
    assert canonical_type("numeric( 9 )") == "numeric(9,0)"


def insert(connection: Connection, name: str) -> None:
    rows(
        connection,
        "insert into staging.shop__spend (organization_id, record_key, batch_id, extracted_at, "
        f"content_hash, id) values ('x', '{name}', 1, now(), gen_random_uuid(), '{name}') "
        "returning 1",
    )
