"""The state of the whole warehouse, read at one moment."""

from __future__ import annotations

from typing import Any

from psycopg2.extras import RealDictCursor

from warehouse.database import connect
from warehouse.settings import Settings

Rows = list[dict[str, Any]]

# Worked out when asked, so that they are true when no runner lives to note them.
_ALERTS = """
select c.severity, c.title, c.text, c.key, a.first_fired_at, a.notified_at
from metadata.alert_conditions as c
left join metadata.alerts as a on a.key = c.key and a.recovered_at is null
order by c.severity, c.key
"""
_PARTS = {
    "leader": """
        select
            runner, taken_at as since, heartbeat_at, epoch,
            extract(epoch from now() - heartbeat_at)::float as silent_seconds
        from metadata.leadership where runner is not null
    """,
    "marts": """
        select
            m.mart, m.organization_id, m.status, m.last_refresh_at, m.data_through, m.lag_seconds,
            m.sla_seconds, m.late_after, m.waiting_since, m.waiting_batches,
            r.intervals as sla_intervals, r.met as sla_met, r.share::float as sla_share,
            r.goal::float as sla_goal, r.worst_lag_seconds::float as sla_worst_lag_seconds
        from metadata.mart_status as m
        join metadata.sla_report as r on r.mart = m.mart
        order by array_position('{late,never,fresh}', m.status), m.mart, m.organization_id
    """,
    "jobs": """
        select
            j.job_name, j.kind, j.cadence, j.clock,
            l.run_id, l.status, l.scheduled_for, l.started_at, l.finished_at, l.rows_affected,
            l.error_message, o.slots as overdue_slots, o.overdue_since
        from metadata.jobs as j
        left join lateral (
            select * from metadata.refresh_log as r
            where r.job_name = j.job_name order by r.started_at desc, r.run_id desc limit 1
        ) as l on true
        left join metadata.overdue_jobs as o on o.job_name = j.job_name
        order by array_position('{refresh,pull,nightly,weekly}', j.kind), j.job_name
    """,
    "running": """
        select
            run_id, job_name, started_at, extract(epoch from now() - started_at)::float as seconds,
            extract(epoch from now() - heartbeat_at)::float as silent_seconds
        from metadata.refresh_log where status = 'running' order by run_id
    """,
    "requests": """
        select request_id, kind, arguments, status, requested_by, requested_at, run_id
        from metadata.job_requests where finished_at is null order by request_id
    """,
    "backfills": """
        select backfill_id, engine, first_week, last_week, status, weeks, weeks_left, percent::float
        from metadata.backfill_progress
        where status in ('pending', 'running', 'paused') order by backfill_id
    """,
    "alerts": _ALERTS,
    "parity": """
        select mart, organization_id, count(distinct (partner_id, period)) as failed_keys
        from metadata.declared_marts
        join metadata.parity_verdicts using (mart)
        where verdict <> 'ok' and verdict = 'failed'
        group by mart, organization_id order by mart, organization_id
    """,
    "rejected": """
        select b.engine, sum(f.rejected)::bigint as records
        from metadata.batches as b
        cross join jsonb_to_recordset(b.report -> 'files') as f (rejected bigint)
        where b.landed_at > now() - interval '7 days'
        group by b.engine having sum(f.rejected) > 0 order by b.engine
    """,
}


def read_status(settings: Settings) -> dict[str, Any]:
    """Every part of the status screen, all of one moment; `leader` is None when none ever led."""
    content = _read(settings, {"as_of": "select now() as as_of", **_PARTS})
    leader = content.pop("leader")
    (moment,) = content.pop("as_of")
    return {"as_of": moment["as_of"], "leader": leader[0] if leader else None, **content}


def open_alerts(settings: Settings) -> Rows:
    """What holds now; `first_fired_at` is None where no runner has noted it yet."""
    alerts: Rows = _read(settings, {"alerts": _ALERTS})["alerts"]
    return alerts


def _read(settings: Settings, queries: dict[str, str]) -> dict[str, Any]:
    connection = connect(settings, role="oversight_owner", application_name="oversight status")
    try:
        connection.set_session(isolation_level="repeatable read", readonly=True)
        with connection, connection.cursor(cursor_factory=RealDictCursor) as cursor:
            found: dict[str, Any] = {}
            for name, query in queries.items():
                cursor.execute(query)
                found[name] = [dict(row) for row in cursor.fetchall()]
            return found
    finally:
        connection.close()
