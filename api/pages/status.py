"""What the status page shows, read at one moment in the caller's scope and role."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from psycopg2.sql import SQL, Composable, Literal

from api.access.auth import Principal, may
from api.access.scope import condition, is_one_of, reading_as, where
from api.reporting import freshness
from api.reporting.deployed import Served, ServedMart
from api.reporting.metadata import of_marts, view

RUNS = 20
FAILING_KEYS = 25
HOURS = 24
DAYS = 30

_READ = SQL("""
select json_build_object(
    'as_of', {as_of},
    'marts', {marts},
    'sla', (
        select coalesce(json_object_agg(s.mart, s), '{{}}') from metadata.visible_sla() as s
        where {of_marts}
    ),
    'hours', ({hours}),
    'days', ({days}),
    'waiting', ({waiting}),
    'last_success', ({last_success}),
    'parity', ({parity}),
    'failing', ({failing}),
    'runs', ({runs}),
    'backfills', ({backfills}),
    'alerts', ({alerts})
)::text
""")
_WAITS = SQL("""
    select coalesce(json_agg(w), '[]') from (
        select m.model as mart, {at} as at, max(m.longest_seconds) as seconds
        from metadata.mart_waits as m
        {where}
        group by m.model, {at}
    ) as w
""")
_WAITING = SQL("""
    select coalesce(json_object_agg(w.model, w), '{{}}') from (
        select
            m.model, count(distinct m.batch_id) as batches,
            extract(epoch from now() - min(m.landed_at))::float8 as seconds
        from metadata.waiting_batches as m
        {where}
        group by m.model
    ) as w
""")
_LAST_SUCCESS = SQL("""
    select coalesce(json_object_agg(n.name, s), '{{}}')
    from unnest({names}::text[]) as n (name)
    cross join lateral (
        select l.run_id, {finished_at} as finished_at
        from metadata.refresh_log as l
        where l.status = 'success' and (l.job_name = n.name or n.name = any(l.models))
        order by l.started_at desc, l.run_id desc limit 1
    ) as s
""")
_PARITY = SQL("""
    select coalesce(json_object_agg(p.mart, p), '{{}}') from (
        select
            v.mart,
            count(distinct {key}) filter (where v.verdict = 'failed') as failed,
            count(distinct {key}) filter (where v.verdict = 'unchecked') as unchecked
        from metadata.parity_verdicts as v
        {where}
        group by v.mart
    ) as p
""")
_FAILING = SQL("""
    select coalesce(json_agg(f), '[]') from (
        select
            v.organization_id, v.mart, v.partner_id, v.period, v.metric,
            v.mart_value::text, v.control_value::text, v.difference::text,
            {checked_at} as checked_at
        from metadata.parity_verdicts as v
        {where}
        order by v.period desc nulls first, v.mart, v.partner_id, v.metric limit {limit}
    ) as f
""")
_RUNS = SQL("""
    select coalesce(json_agg(r), '[]') from (
        select
            l.run_id, l.job_name, {started_at} as started_at, l.status,
            extract(epoch from coalesce(l.finished_at, now()) - l.started_at)::float8 as seconds,
            {rows_affected} as rows_affected, {error_message} as error_message
        from metadata.refresh_log as l
        {where}
        order by l.started_at desc, l.run_id desc limit {limit}
    ) as r
""")
_BACKFILLS = SQL("""
    select coalesce(json_agg(b order by b.backfill_id), '[]')
    from metadata.visible_backfills() as b
""")
_ALERTS = SQL("""
    select coalesce(json_agg(a order by a.severity, a.title), '[]') from (
        select a.severity, a.title, a.text, {first_fired_at} as first_fired_at
        from metadata.visible_alerts() as a
    ) as a
""")
_NOTHING = SQL("select '[]'::json")


def message(served: Served, principal: Principal, *, timeout_ms: int) -> Composable:
    """Everything as one message of one row; what tells of other organizations is not asked for."""
    shown = shown_marts(served, principal)
    names = [item.mart.name for item in shown]
    sees_all = principal.sees_all("organization")
    sees_errors = sees_alerts(principal)
    of_model = [is_one_of(SQL("m.model"), names), _organization(principal, "m")]
    of_verdict = [
        is_one_of(SQL("v.mart"), names),
        _organization(principal, "v"),
        condition(principal, "partner", SQL("v.partner_id")),
        SQL("v.verdict <> 'ok'"),
    ]
    hour = SQL("to_char(m.hour at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24')")
    day = SQL("to_char(m.hour at time zone 'UTC', 'YYYY-MM-DD')")
    read = _READ.format(
        as_of=freshness.instant(SQL("now()")),
        marts=SQL("json_build_array({})").format(
            SQL(", ").join(view(item, principal) for item in shown)
        ),
        of_marts=is_one_of(SQL("s.mart"), names),
        hours=_WAITS.format(
            at=hour,
            where=where(
                [*of_model, SQL("m.hour > now() - {} * interval '1 hour'").format(Literal(HOURS))]
            ),
        ),
        days=_WAITS.format(
            at=day,
            where=where(
                [*of_model, SQL("m.hour > now() - {} * interval '1 day'").format(Literal(DAYS))]
            ),
        ),
        waiting=_WAITING.format(where=where(of_model)),
        last_success=_LAST_SUCCESS.format(
            names=Literal(names), finished_at=freshness.instant(SQL("l.finished_at"))
        ),
        parity=_PARITY.format(
            key=SQL("(v.organization_id, v.partner_id, v.period)"), where=where(of_verdict)
        ),
        failing=_FAILING.format(
            where=where([*of_verdict, SQL("v.verdict = 'failed'")]),
            checked_at=freshness.instant(SQL("v.checked_at")),
            limit=Literal(FAILING_KEYS),
        ),
        runs=_RUNS.format(
            started_at=freshness.instant(SQL("l.started_at")),
            rows_affected=SQL("l.rows_affected") if sees_all else SQL("null::bigint"),
            error_message=SQL("l.error_message") if sees_errors else SQL("null::text"),
            where=where([None if sees_all else of_marts(names)]),
            limit=Literal(RUNS),
        ),
        backfills=_BACKFILLS,
        alerts=_ALERTS.format(first_fired_at=freshness.instant(SQL("a.first_fired_at")))
        if sees_errors
        else _NOTHING,
    )
    return SQL("").join([reading_as(principal, timeout_ms=timeout_ms), read])


def shown_marts(served: Served, principal: Principal) -> list[ServedMart]:
    """The marts that are refreshed and that the caller's role may read."""
    return [
        item
        for item in served.marts.values()
        if item.mart.cadence is not None and principal.role in item.mart.readers
    ]


def sees_several(principal: Principal) -> bool:
    """Whether what is shown may be of more than one organization."""
    return principal.sees_all("organization") or len(principal.ids("organization")) > 1


def sees_alerts(principal: Principal) -> bool:
    """Whether errors, alerts and counts of requests may be shown: they are of everybody."""
    return principal.sees_all("organization") and may(principal, "operate")


def parse(text: str) -> dict[str, Any]:
    """The answer of `message`, its numbers with all their digits."""
    content: dict[str, Any] = json.loads(text, parse_float=Decimal)
    return content


def _organization(principal: Principal, alias: str) -> Composable | None:
    return condition(principal, "organization", SQL(f"{alias}.organization_id"))
