"""Snapshot extracts: what they speak of, what a newer one has already said, what has vanished."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal

from runner.landing.closing import clip_windows
from runner.landing.errors import LandingError
from runner.landing.tables import RECORD, OrganizationCount, TableBatch
from runner.landing.times import as_of_text, window_text
from runner.landing.versions import land_versions
from warehouse.raw_tables import canonical_type, payload_columns


def place_in_time(cursor: Cursor, batch: TableBatch) -> None:
    """Give each record its extract's window and as-of time, and reject what lies outside.

    An append extract takes at most the as-of time of its control file.
    """
    for number, extract in enumerate(batch.extracts):
        as_of, window = as_of_text(extract), window_text(extract)
        if as_of is not None:
            cursor.execute(
                "update pg_temp.incoming set as_of = %s where file_number = %s", (as_of, number)
            )
        if window is not None:
            cursor.execute(
                "update pg_temp.incoming set window_from = %s, window_to = %s "
                "where file_number = %s",
                (*window, number),
            )
    if batch.table.mode != "snapshot":
        return
    if batch.table.as_of is not None and batch.table.as_of.kind == "column":
        cursor.execute(
            """
            update pg_temp.incoming as i set as_of = e.as_of
            from (
                select file_number, organization_id, max(as_of) as as_of
                from pg_temp.incoming where reasons is null group by file_number, organization_id
            ) as e
            where e.file_number = i.file_number and e.organization_id = i.organization_id
            """
        )
    if batch.table.date_column is not None:
        name = batch.table.date_column
        cursor.execute(
            SQL(
                """
                update pg_temp.incoming as i
                set reasons = {reason} || i.window_from || ' to ' || i.window_to, record = {record}
                where i.reasons is null and not {day} between i.window_from and i.window_to
                """
            ).format(
                reason=Literal(f'column "{name}": the day is outside the window of the extract, '),
                record=RECORD,
                day=_day(batch, "c_", "i"),
            )
        )


def land_snapshots(cursor: Cursor, batch: TableBatch, *, allow_void: bool) -> int:
    """Land snapshots from the oldest to the newest, each with the voids it makes; count these."""
    _make_windows(cursor, batch, allow_void=allow_void)
    clip_windows(cursor, batch)
    _drop_superseded(cursor, batch)
    cursor.execute("select distinct as_of from pg_temp.extracts order by as_of")
    voided = 0
    for (as_of,) in cursor.fetchall():
        _find_live(cursor, batch, as_of)
        land_versions(cursor, batch, as_of=as_of)
        voided += _void_vanished(cursor, batch, as_of, allow_void=allow_void)
    _store_windows(cursor, batch)
    return voided


def _make_windows(cursor: Cursor, batch: TableBatch, *, allow_void: bool) -> None:
    """One row per organization, window and as-of time that an extract of this batch speaks of."""
    cursor.execute("drop table if exists pg_temp.extracts")
    cursor.execute(
        """
        create temporary table extracts on commit drop as
        select distinct organization_id, window_from, window_to, as_of
        from pg_temp.incoming
        where organization_id is not null and as_of is not null and window_from is not null
        """
    )
    for extract, count in zip(batch.extracts, batch.counts, strict=True):
        as_of, window = as_of_text(extract), window_text(extract)
        if count.read > 0 or not allow_void:
            continue
        if as_of is None or window is None:
            raise LandingError(
                f"{extract.path}: it holds no records, and its window and as-of time stand in "
                "columns; nothing says what it withdraws"
            )
        cursor.execute(
            SQL(
                """
                insert into pg_temp.extracts
                select distinct organization_id, %s::date, %s::date, %s::timestamptz
                from (
                    select {organization} as organization_id union select organization_id from {raw}
                ) as known
                where organization_id is not null
                """
            ).format(organization=Literal(batch.table.organization_value), raw=batch.raw),
            (*window, as_of),
        )


def _drop_superseded(cursor: Cursor, batch: TableBatch) -> None:
    """Records of days that a newer snapshot has covered change nothing: they are unchanged."""
    cursor.execute("drop table if exists pg_temp.covered")
    cursor.execute(
        """
        create temporary table covered on commit drop as
        select organization_id, window_from, window_to, as_of
        from metadata.extract_windows where engine = %s and source_table = %s
        union
        select organization_id, window_from, window_to, as_of from pg_temp.extracts
        """,
        (batch.table.engine, batch.table.name),
    )
    cursor.execute(
        SQL(
            """
            delete from pg_temp.incoming as i
            where i.reasons is null and exists (
                select from pg_temp.covered as c
                where c.organization_id = i.organization_id and c.as_of > i.as_of
                    and {day} between c.window_from and c.window_to
            )
            """
        ).format(day=_day(batch, "c_", "i"))
    )


def _find_live(cursor: Cursor, batch: TableBatch, as_of: datetime) -> None:
    """What this as-of time could void: live, older, in its window, not covered since."""
    columns = SQL(", ").join(
        Identifier("n", column.name) for column in payload_columns(batch.table)
    )
    narrowed: Composable = SQL("")
    if batch.table.date_column is not None:
        narrowed = SQL("and {day} between e.window_from and e.window_to").format(
            day=Identifier("t", batch.table.date_column)
        )
    cursor.execute("drop table if exists pg_temp.live")
    cursor.execute(
        SQL(
            """
            create temporary table live on commit drop as
            select distinct on (n.record_key)
                e.window_from as "window from", e.window_to as "window to", n.organization_id,
                n.record_key, n.record_version, n.content_hash, {columns}
            from pg_temp.extracts as e
            join lateral (
                select distinct t.record_key from {raw} as t
                where t.organization_id = e.organization_id {narrowed}
            ) as k on true
            join lateral (
                select t.* from {raw} as t
                where t.record_key = k.record_key
                order by t.record_version desc, t.extracted_at desc, t.batch_id desc, t.row_id desc
                limit 1
            ) as n on true
            where e.as_of = %(as_of)s and not n.is_void and n.extracted_at < e.as_of
                and {day} between e.window_from and e.window_to
                and not exists (
                    select from pg_temp.covered as c
                    where c.organization_id = n.organization_id and c.as_of > e.as_of
                        and {day} between c.window_from and c.window_to
                )
            """
        ).format(raw=batch.raw, columns=columns, narrowed=narrowed, day=_day(batch, "", "n")),
        {"as_of": as_of},
    )


def _void_vanished(cursor: Cursor, batch: TableBatch, as_of: datetime, *, allow_void: bool) -> int:
    cursor.execute(
        """
        select l.organization_id, l."window from"::text, l."window to"::text, count(*),
            count(*) filter (where i.record_key is null), %s::timestamptz::text
        from pg_temp.live as l
        left join (
            select distinct record_key from pg_temp.incoming where as_of = %s
        ) as i on i.record_key = l.record_key
        group by l.organization_id, l."window from", l."window to"
        """,
        (as_of, as_of),
    )
    groups: list[tuple[Any, ...]] = [group for group in cursor.fetchall() if group[4]]
    vanished = sum(int(group[4]) for group in groups)
    if not vanished:
        return 0
    if batch.rejected:
        batch.notes.append(
            f"{batch.table.name}: {vanished} records are missing from the snapshot of "
            f"{as_of.isoformat()}, but {batch.rejected} were rejected, so none "
            "was withdrawn"
        )
        return 0
    for organization, first, last, live, gone, through in groups:
        if gone > live * batch.table.max_void_share and not allow_void:
            raise LandingError(
                f"{batch.extracts[0].path.parent}: the snapshot of {batch.table.name} as of "
                f"{as_of.isoformat()} would withdraw {gone} of the {live} records that "
                f"organization {organization} has from {first} to {last}, more than max_void_share "
                f"{batch.table.max_void_share:g} allows; if it is right, load it with --allow-void"
            )
        total = batch.organizations.setdefault(organization, OrganizationCount())
        total.voided += gone
        total.extracted_through = max(total.extracted_through, through)
    names = [Identifier(column.name) for column in payload_columns(batch.table)]
    cursor.execute(
        SQL(
            """
            insert into {raw} ({columns})
            select {values} from pg_temp.live as l
            where not exists (
                select from pg_temp.incoming as i
                where i.record_key = l.record_key and i.as_of = {as_of}
            )
            """
        ).format(
            raw=batch.raw,
            as_of=Literal(as_of),
            columns=SQL(", ").join(
                [
                    SQL(
                        "organization_id, record_key, batch_id, record_version, extracted_at, "
                        "content_hash, is_void"
                    ),
                    *names,
                ]
            ),
            values=SQL(", ").join(
                [
                    SQL(
                        "l.organization_id, l.record_key, {}, l.record_version, {}, "
                        "l.content_hash, true"
                    ).format(Literal(batch.batch_id), Literal(as_of)),
                    *(SQL("l.{}").format(name) for name in names),
                ]
            ),
        )
    )
    return vanished


def _store_windows(cursor: Cursor, batch: TableBatch) -> None:
    """Windows for parity and for later snapshots; where two overlap, the newer one holds."""
    cursor.execute(
        """
        insert into metadata.extract_windows
            (batch_id, engine, source_table, organization_id, window_from, window_to, as_of)
        select %s, %s, %s, organization_id, lower(days),
            case when upper_inc(days) then upper(days) else upper(days) - 1 end, as_of
        from (
            select e.organization_id, e.as_of, unnest(
                range_agg(daterange(e.window_from, e.window_to, '[]')) - coalesce(
                    (
                        select range_agg(daterange(n.window_from, n.window_to, '[]'))
                        from pg_temp.extracts as n
                        where n.organization_id = e.organization_id and n.as_of > e.as_of
                    ),
                    '{}'
                )
            ) as days
            from pg_temp.extracts as e
            group by e.organization_id, e.as_of
        ) as uncovered
        """,
        (batch.batch_id, batch.table.engine, batch.table.name),
    )


def _day(batch: TableBatch, prefix: str, alias: str = "") -> Composable:
    """The day that a window speaks of; any day where windows are always everything."""
    name = batch.table.date_column
    if name is None:
        return SQL("date '2000-01-01'")
    column = Identifier(*([alias] if alias else []), f"{prefix}{name}")
    if canonical_type(batch.table.column(name).data_type) == "date":
        return column
    return SQL("({} at time zone {})::date").format(column, Literal(batch.table.zone or "UTC"))
