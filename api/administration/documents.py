"""Pulls and backfills as the administration shows them: SQL that builds the JSON."""

from __future__ import annotations

from psycopg2.sql import SQL, Composable, Identifier, Literal

from api.reporting.freshness import instant

_WEEKS = (
    "weeks",
    "weeks_done",
    "weeks_skipped",
    "weeks_failed",
    "weeks_left",
    "percent",
    "running_week",
    "failed_weeks",
    "rows_landed",
    "rows_rejected",
    "requested_by",
    "error_message",
)
_MEMBERS = SQL("""
    'id', p.backfill_id, 'engine', p.engine, 'status', p.status,
    'first_week', p.first_week, 'last_week', p.last_week,
    'from', b.first_week, 'to', b.last_week + 6, {weeks}, {times}
""").format(
    weeks=SQL(", ").join(
        SQL("{}, {}").format(Literal(name), Identifier("p", name)) for name in _WEEKS
    ),
    times=SQL(", ").join(
        SQL("{}, {}").format(Literal(name), instant(Identifier("p", name)))
        for name in ("requested_at", "started_at", "finished_at")
    ),
)
_LEDGER = SQL("""
    , 'ledger', (
        select coalesce(json_agg(json_build_object(
            'week', to_char(w.week, 'IYYY-"W"IW'), 'status', w.status, 'attempts', w.attempt,
            'batch_id', w.batch_id, 'rows_landed', w.rows_landed, 'rows_rejected', w.rows_rejected,
            'landed_checksum', w.landed_checksum, 'mart_checksums', w.mart_checksums,
            'started_at', {started_at}, 'finished_at', {finished_at},
            'error_message', w.error_message
        ) order by w.week), '[]')
        from metadata.backfill_weeks as w where w.backfill_id = p.backfill_id
    )
""").format(started_at=instant(SQL("w.started_at")), finished_at=instant(SQL("w.finished_at")))
_FROM = SQL("metadata.backfill_progress as p join metadata.backfills as b using (backfill_id)")
_BACKFILL = SQL("""(
    select json_build_object({members}{ledger})::text
    from {relation} where p.backfill_id = {subject}
)""")
# A page and one more, to see whether there is a next page.
_BACKFILLS = SQL("""(
    select json_build_object(
        'data', coalesce(
            json_agg(o.item order by o.id desc) filter (where o.place <= {size}), '[]'
        ),
        'next_page', case when count(*) > {size}
            then (min(o.id) filter (where o.place <= {size}))::text end
    )::text
    from (
        select
            json_build_object({members}) as item, p.backfill_id as id,
            row_number() over (order by p.backfill_id desc) as place
        from {relation}
        where p.backfill_id in (
            select n.backfill_id from metadata.backfills as n
            where {before}::bigint is null or n.backfill_id < {before}
            order by n.backfill_id desc limit {size} + 1
        )
    ) as o
)""")
_PULL = SQL("""(
    select json_build_object(
        'id', min(q.request_id),
        'status', case
            when bool_and(q.status = 'pending') then 'pending'
            when bool_or(q.status in ('pending', 'running')) then 'running'
            when bool_or(q.status = 'failed') then 'failed'
            when bool_or(q.status = 'cancelled') then 'cancelled'
            else 'done'
        end,
        'requested_by', min(q.requested_by),
        'requested_at', {requested_at},
        'engines', json_agg(json_build_object(
            'engine', q.arguments ->> 'engine', 'status', q.status, 'run_id', q.run_id,
            'run_status', l.status, 'rows_affected', l.rows_affected,
            'finished_at', {finished_at}, 'error_message', q.error_message
        ) order by q.request_id)
    )::text
    from metadata.job_requests as q left join metadata.refresh_log as l on l.run_id = q.run_id
    where q.request_id = {subject} or q.lead_request_id = {subject}
)""")


def backfill(subject: Composable, *, with_ledger: bool = False) -> Composable:
    """One backfill, its weeks too if asked for."""
    ledger = _LEDGER if with_ledger else SQL("")
    return _BACKFILL.format(members=_MEMBERS, ledger=ledger, relation=_FROM, subject=subject)


def backfills(before: int | None, size: int) -> Composable:
    """A page of backfills, the newest first, and the number that the next page is before."""
    return _BACKFILLS.format(
        members=_MEMBERS, relation=_FROM, before=Literal(before), size=Literal(size)
    )


def pull(subject: Composable) -> Composable:
    """One pull, engine by engine."""
    return _PULL.format(
        subject=subject,
        requested_at=instant(SQL("min(q.requested_at)")),
        finished_at=instant(SQL("q.finished_at")),
    )
