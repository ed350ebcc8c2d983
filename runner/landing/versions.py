"""Versions: a record lands when it differs from the version before it, and only then."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composed, Identifier, Literal

from runner.landing.tables import Candidates, TableBatch
from warehouse.raw_tables import payload_columns


def land_versions(cursor: Cursor, batch: TableBatch, *, as_of: datetime | None = None) -> None:
    """Insert each record that differs from its newest version, in order; the rest is unchanged.

    With `as_of` only the records of the snapshots of that time.
    """
    cursor.execute(SQL("select exists (select from {})").format(batch.raw))
    is_filled = bool(_value(cursor))
    if as_of is not None:
        chosen = SQL("i.reasons is null and i.as_of = {}").format(Literal(as_of))
        _insert_changed(cursor, batch, chosen)
    elif is_filled or _has_repeated_keys(cursor):
        _insert_changed(cursor, batch, Composed([SQL("i.reasons is null")]))
    else:
        _insert_all(cursor, batch)


def _has_repeated_keys(cursor: Cursor) -> bool:
    """By hash, which is quicker; two keys of one hash only cost the way of the comparison."""
    cursor.execute(
        "select exists (select from pg_temp.incoming where reasons is null "
        "group by hashtextextended(record_key, 0) having count(*) > 1)"
    )
    return bool(_value(cursor))


def _insert_all(cursor: Cursor, batch: TableBatch) -> None:
    """The way of a first load: nothing to compare with."""
    target, source = _column_lists(batch)
    cursor.execute(
        SQL(
            "insert into {} ({}) select {} from pg_temp.incoming as i where i.reasons is null"
        ).format(batch.raw, target, source)
    )
    _count_accepted(batch, batch.candidates)


def _insert_changed(cursor: Cursor, batch: TableBatch, chosen: Composed) -> None:
    """Compare each record with the version before it: the newest that is landed, then its own
    batch's. One that is older than the newest lands too, unless that very version is there."""
    target, source = _column_lists(batch)
    moment = batch.moment
    cursor.execute("analyze pg_temp.incoming (record_key)")
    cursor.execute(
        SQL(
            """
            with compared as (
                select i.*, {moment} as moment, n.content_hash as newest_hash,
                    n.is_void as newest_void, n.record_key is not null as is_known,
                    coalesce(
                        (i.record_version, {moment}) < (n.record_version, n.extracted_at), false
                    ) as is_older
                from pg_temp.incoming as i
                left join lateral (
                    select t.record_key, t.record_version, t.extracted_at, t.content_hash, t.is_void
                    from {raw} as t
                    where t.record_key = i.record_key
                    order by t.record_version desc, t.extracted_at desc, t.batch_id desc,
                        t.row_id desc
                    limit 1
                ) as n on true
                where {chosen}
            ),
            ordered as (
                select c.*,
                    lag(c.content_hash) over versions as previous_hash,
                    lag(c.is_void) over versions as previous_void
                from compared as c
                window versions as (
                    partition by c.record_key, c.is_older
                    order by c.record_version, c.moment, c.file_number, c.record_number
                )
            ),
            changed as (
                select i.*
                from ordered as i
                where
                    case
                        when (i.content_hash, i.is_void) = (i.previous_hash, i.previous_void)
                            then false
                        when i.is_older
                            then not exists (
                                select from {raw} as t
                                where t.record_key = i.record_key
                                    and t.record_version = i.record_version
                                    and (t.extracted_at = i.moment or not {has_own_time})
                                    and t.content_hash = i.content_hash
                                    and t.is_void = i.is_void
                            )
                        when i.previous_hash is not null
                            then true
                        when i.is_known
                            then (i.content_hash, i.is_void) <> (i.newest_hash, i.newest_void)
                        else true
                    end
            ),
            landed as (
                insert into {raw} ({target})
                select {source} from changed as i
                order by i.record_version, i.moment, i.file_number, i.record_number
            )
            select file_number, organization_id, count(*), count(*) filter (where is_void)
            from changed group by file_number, organization_id
            """
        ).format(
            raw=batch.raw,
            target=target,
            source=source,
            chosen=chosen,
            moment=moment,
            has_own_time=Literal(batch.table.extracted_at is not None),
        )
    )
    _count_accepted(batch, cursor.fetchall())


def _column_lists(batch: TableBatch) -> tuple[Composed, Composed]:
    names = [column.name for column in payload_columns(batch.table)]
    target = SQL(", ").join(
        [
            SQL(
                "organization_id, record_key, batch_id, record_version, extracted_at, "
                "content_hash, is_void"
            ),
            *(Identifier(name) for name in names),
        ]
    )
    source = SQL(", ").join(
        [
            SQL(
                "i.organization_id, i.record_key, {}, i.record_version, {}, i.content_hash, "
                "i.is_void"
            ).format(Literal(batch.batch_id), batch.moment),
            *(Identifier("i", f"c_{name}") for name in names),
        ]
    )
    return target, source


def _count_accepted(batch: TableBatch, landed: Sequence[Candidates]) -> None:
    for number, organization, accepted, voided in landed:
        batch.counts[number].accepted += accepted
        batch.counts[number].unchanged -= accepted
        batch.organizations[organization].accepted += accepted
        batch.organizations[organization].voided += voided


def _value(cursor: Cursor) -> Any:
    row = cursor.fetchone()
    return row[0] if row else None
