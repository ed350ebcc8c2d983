"""Closed days: what arrives for them does not land, so that what was reported of them stays."""

from __future__ import annotations

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal

from runner.landing.tables import RECORD, TableBatch
from warehouse.declared import Catalogue
from warehouse.raw_tables import canonical_type


def closed_before(cursor: Cursor, catalogue: Catalogue) -> str | None:
    """The day before which all is closed: as declared, but never behind what was retired."""
    cursor.execute(
        "select greatest(%s::date, (select max(before::date) from metadata.retired "
        "where reason = 'closed_day' and deleted_at is not null))::text",
        (catalogue.closed_before,),
    )
    row = cursor.fetchone()
    return row[0] if row else None


def reject_closed(cursor: Cursor, batch: TableBatch, catalogue: Catalogue) -> None:
    """Set records of closed days aside, and those that would take a record out of one.

    They are kept among the rejects and counted apart from them: nothing is wrong with them.
    Tables without a declared date speak of no day.
    """
    name = batch.table.date_column
    batch.closed_before = closed_before(cursor, catalogue) if name else None
    if name is None or batch.closed_before is None:
        return
    values = {
        "record": RECORD,
        "closed": Literal(batch.closed_before),
        "day": _day(batch, catalogue, Identifier("i", f"c_{name}")),
        "column": Literal(f'column "{name}": '),
        "ends": Literal(f" is before {batch.closed_before}, and those days are closed"),
    }
    cursor.execute(
        SQL(
            "update pg_temp.incoming as i set is_closed = true, "
            "reasons = {column} || {day} || {ends}, record = {record} "
            "where i.reasons is null and {day} < {closed}"
        ).format(**values)
    )
    closed = cursor.rowcount
    cursor.execute(
        SQL(
            """
            update pg_temp.incoming as i
            set is_closed = true, reasons = 'the record stands at ' || n.day || {ends},
                record = {record}
            from (
                select i.ctid as place, newest.day
                from pg_temp.incoming as i
                join lateral (
                    select t.is_void, {landed_day} as day
                    from {raw} as t
                    where t.record_key = i.record_key
                    order by t.record_version desc, t.extracted_at desc, t.batch_id desc,
                        t.row_id desc
                    limit 1
                ) as newest on true
                where i.reasons is null and not newest.is_void and newest.day < {closed}
            ) as n
            where i.ctid = n.place
            """
        ).format(raw=batch.raw, landed_day=_day(batch, catalogue, Identifier("t", name)), **values)
    )
    closed += cursor.rowcount
    if closed:
        batch.notes.append(
            f"{batch.table.name}: {closed} records speak of days before "
            f"{batch.closed_before}, which are closed, and did not land"
        )


def clip_windows(cursor: Cursor, batch: TableBatch) -> None:
    """A snapshot says nothing of closed days: it withdraws nothing there and confirms nothing."""
    if batch.closed_before is None:
        return
    cursor.execute(
        "delete from pg_temp.extracts where window_to < %(closed)s; "
        "update pg_temp.extracts set window_from = %(closed)s where window_from < %(closed)s",
        {"closed": batch.closed_before},
    )


def _day(batch: TableBatch, catalogue: Catalogue, column: Composable) -> Composable:
    """The reporting day, as facts have it."""
    assert batch.table.date_column is not None
    if canonical_type(batch.table.column(batch.table.date_column).data_type) == "date":
        return column
    return SQL("({} at time zone {})::date").format(column, Literal(catalogue.reporting_timezone))
