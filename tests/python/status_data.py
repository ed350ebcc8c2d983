"""What the status page shows, made by hand: two organizations, hostile names, every state."""

from __future__ import annotations

from api_warehouse import ApiWarehouse

HOSTILE = "<script>alert('x')</script>&\"'{{7*7}}"
SECRET_ERROR = "permission denied for beta-only-table"
_WAITS = """
    insert into metadata.mart_waits (model, organization_id, hour, batches, longest_seconds)
    select
        m.model, o.id, date_trunc('hour', now()) - h * interval '1 hour', 3,
        case when o.id = 'beta' then 7000 + h
            else m.sla * (0.2 + 0.15 * (h % 5) + case when h in (5, 200, 201) then 1.4 else 0 end)
        end
    from (values ('daily_metrics', 900), ('weekly_partner_performance', 3600)) as m (model, sla)
    cross join (values ('alpha'), ('beta')) as o (id)
    cross join generate_series(0, 600) as h
    where h % 7 <> 3
"""
_BATCHES = """
    insert into metadata.batches (engine, status, path)
    values ('alpha_ads', 'landed', '/a'), ('beta_ads', 'landed', '/b');
    insert into metadata.batch_tables
        (batch_id, engine, source_table, organization_id, extracted_through)
    select batch_id, engine, 'report', split_part(engine, '_', 1), now()
    from metadata.batches where engine in ('alpha_ads', 'beta_ads');
    insert into metadata.waiting_batches (model, organization_id, batch_id, landed_at)
    select 'daily_metrics', split_part(engine, '_', 1), batch_id,
        now() - case engine when 'alpha_ads' then interval '4 minutes' else interval '3 hours' end
    from metadata.batches where engine in ('alpha_ads', 'beta_ads');
"""
_VERDICTS = """
    insert into metadata.parity_verdicts (
        organization_id, mart, partner_id, period, metric, mart_value, control_value, difference,
        verdict
    )
    select o.id, 'daily_metrics', p.id, date '2026-10-01' + d, 'spend', 1234567.0100, 1234560, 7.01,
        case when p.id like '<%%' then 'failed' else 'ok' end
    from (values ('alpha'), ('beta')) as o (id)
    cross join (values (%s), ('reddit_ads:1')) as p (id)
    cross join generate_series(0, 3) as d
    union all
    values ('alpha', 'weekly_partner_performance', 'reddit_ads:2', date '2026-10-05', 'revenue',
        10, null, null, 'unchecked'),
        ('beta', 'daily_metrics', 'beta-secret-partner', '2026-10-05', 'spend', 1, 2, 1, 'failed')
"""
_JOBS = """
    insert into metadata.jobs (job_name, kind, cadence, since) values
        ('daily_metrics', 'refresh', '*/15 * * * *', now() - interval '20 days'),
        ('weekly_partner_performance', 'refresh', '0 * * * *', now() - interval '20 days');
    insert into metadata.refresh_log
        (job_name, scheduled_for, started_at, finished_at, status, rows_affected, models)
    select 'daily_metrics', s, s + interval '1 second', s + interval '9 seconds', 'success',
        987654321, '{daily_metrics,fact_spend}'
    from generate_series(
        date_trunc('hour', now()) - interval '3 days', now() - interval '20 minutes',
        interval '15 minutes'
    ) as s;
    insert into metadata.refresh_log
        (job_name, started_at, finished_at, status, error_message, models)
    values
        ('weekly_partner_performance', now() - interval '3 minutes', now(), 'failed', %s,
            '{weekly_partner_performance}'),
        ('pull beta_ads', now() - interval '2 minutes', now(), 'success', null, '{}'),
        ('daily_metrics', now() - interval '1 minutes', null, 'running', null, '{daily_metrics}');
"""
_BACKFILLS = """
    insert into metadata.job_requests (kind) values ('backfill'), ('backfill');
    insert into metadata.backfills
        (engine, first_week, last_week, status, max_weeks, max_attempts, request_id)
    select case row_number() over (order by request_id) when 1 then 'alpha_ads' else 'beta_ads' end,
        '2026-01-05', '2026-03-09', 'running', 60, 3, request_id
    from metadata.job_requests where kind = 'backfill';
    insert into metadata.backfill_weeks (backfill_id, week, status, last_attempt, finished_at)
    select b.backfill_id, week::date,
        case when n <= 4 then 'done' when n = 5 then 'failed' when n = 6 then 'running'
            else 'pending' end,
        3, case when n <= 5 then now() end
    from metadata.backfills as b
    cross join generate_series(b.first_week::timestamp, b.last_week, interval '7 days')
        with ordinality as w (week, n);
"""


def fill_status(warehouse: ApiWarehouse) -> None:
    """Waits, batches, verdicts, runs and backfills of alpha and beta, which is slower."""
    warehouse.run(_WAITS)
    warehouse.run(_BATCHES)
    warehouse.run(_VERDICTS, HOSTILE)
    warehouse.run(_JOBS, f"{SECRET_ERROR}\n{HOSTILE}")
    warehouse.run(_BACKFILLS)
