"""What a week left behind: the batch that was landed for it, and what the marts hold of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2.extras import RealDictCursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal

from runner.backfill.ledger import Week
from warehouse.declared import Catalogue, Mart
from warehouse.weeks import window

LOCK_TIMEOUT = "30s"
# Sums of hashes need neither an order nor memory for it; the count tells NULL sums apart.
_CHECKSUM = """
    md5(count(*) || ':' || coalesce(sum(('x' || md5({line}))::bit(64)::bigint::numeric), 0))
"""


@dataclass(frozen=True, kw_only=True)
class Landed:
    """A batch by its rows; the checksum is of table, record key and content of each."""

    batch_id: int
    rows: int
    rejected: int
    checksum: str


def find_batch(cursor: Cursor, engine: str, week: Week) -> int | None:
    """The batch that an earlier attempt landed and could not write down; None when there is none.

    A landing that a dead process left on its way to commit is waited for, but not one that stands
    still: then psycopg2's LockNotAvailable is raised.
    """
    cursor.execute("select set_config('lock_timeout', %s, true)", (LOCK_TIMEOUT,))
    cursor.execute(
        "select pg_advisory_xact_lock(hashtextextended('oversight.load.' || %s, 0))", (engine,)
    )
    cursor.execute(
        """
        select max(b.batch_id) as batch_id
        from metadata.batches as b
        where
            b.engine = %s and b.status = 'landed' and b.batch_id > %s
            and b.window_from = %s and b.window_to = %s
            and not exists (select from metadata.backfill_weeks as w where w.batch_id = b.batch_id)
        """,
        (engine, week.batches_before, *window(week.week)),
    )
    row: Any = cursor.fetchone()
    return None if row["batch_id"] is None else int(row["batch_id"])


def landed(cursor: Cursor, catalogue: Catalogue, engine: str, batch_id: int) -> Landed:
    """Counts and checksum of a batch."""
    lines = [
        SQL(
            "select {name} || '|' || record_key || '|' || content_hash || '|' || is_void as line "
            "from {table} where batch_id = %(batch_id)s"
        ).format(name=Literal(table.name), table=Identifier("staging", table.relation))
        for table in catalogue.engine_tables(engine)
    ]
    query = SQL(
        "select ("
        "  select coalesce(sum((f ->> 'accepted')::bigint), 0)::bigint"
        "  from jsonb_array_elements(b.report -> 'files') as f"
        ") as rows, ("
        "  select coalesce(sum((f ->> 'rejected')::bigint), 0)::bigint"
        "  from jsonb_array_elements(b.report -> 'files') as f"
        ") as rejected, (select {checksum} from ({lines}) as t) as checksum "
        "from metadata.batches as b where b.batch_id = %(batch_id)s"
    ).format(
        checksum=SQL(_CHECKSUM).format(line=Identifier("line")),
        lines=SQL(" union all ").join(lines),
    )
    cursor.execute(query, {"batch_id": batch_id})
    row: Any = cursor.fetchone()
    return Landed(batch_id=batch_id, **row)


def marts_without(cursor: Cursor, marts: Sequence[Mart], engine: str, batch_id: int) -> list[str]:
    """The marts that stand on the engine, or were never refreshed, and don't hold the batch."""
    cursor.execute(
        """
        select m.model
        from unnest(%(marts)s) as m (model)
        where
            not exists (select from metadata.mart_sources as s where s.model = m.model)
            or exists (
                select from metadata.mart_sources as s
                where s.model = m.model and s.engine = %(engine)s
            )
            and not exists (
                select from metadata.applied_batches as a
                where a.model = m.model and a.batch_id = %(batch_id)s
            )
        order by m.model
        """,
        {"marts": [mart.name for mart in marts], "engine": engine, "batch_id": batch_id},
    )
    rows: Any = cursor.fetchall()
    return [row["model"] for row in rows]


def mart_checksums(
    cursor: Cursor, marts: Sequence[Mart], engine: str, week: Week
) -> dict[str, str]:
    """The checksum of a week's rows by mart, for the marts with a window that hold the engine."""
    cursor.execute("select distinct model from metadata.mart_sources where engine = %s", (engine,))
    rows: Any = cursor.fetchall()
    standing = {row["model"] for row in rows}
    first, last = window(week.week)
    found: dict[str, str] = {}
    for mart in marts:
        if mart.window is not None and mart.name in standing:
            line: Composable = SQL("t::text")
            cursor.execute(
                SQL(
                    "select {checksum} as checksum from {mart} as t "
                    "where {column} between %s and %s"
                ).format(
                    checksum=SQL(_CHECKSUM).format(line=line),
                    mart=Identifier("reporting", mart.name),
                    column=Identifier("t", mart.window.column),
                ),
                (first, last),
            )
            row: Any = cursor.fetchone()
            found[mart.name] = row["checksum"]
    return found
