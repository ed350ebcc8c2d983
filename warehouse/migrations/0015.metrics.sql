-- What the API tells Prometheus of the warehouse, in one read; none of it names an organization.
-- depends: 0010.pg-cron

create function metadata.metrics() returns table (name text, labels jsonb, value double precision)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    -- Of several organizations the worst counts: whoever asks sees all of them.
    with marts as (
        select
            mart,
            max(lag_seconds) as lag_seconds,
            greatest(0, extract(epoch from now() - min(waiting_since))) as waiting_seconds,
            max(sla_seconds) as sla_seconds,
            min(extract(epoch from last_refresh_at)) as last_refresh,
            (array_agg(status order by array_position('{late,never,fresh}', status)))[1] as status
        from metadata.mart_status
        group by mart
    )

    select 'mart_freshness_lag_seconds', jsonb_build_object('mart', mart), lag_seconds
    from marts where lag_seconds is not null
    union all
    select 'mart_waiting_seconds', jsonb_build_object('mart', mart), coalesce(waiting_seconds, 0) from marts
    union all
    select 'mart_freshness_sla_seconds', jsonb_build_object('mart', mart), sla_seconds from marts
    union all
    select 'mart_freshness_state', jsonb_build_object('mart', mart, 'state', state), (status = state)::integer
    from marts cross join unnest('{fresh,late,never}'::text[]) as state
    union all
    select 'mart_last_success_timestamp_seconds', jsonb_build_object('mart', mart), last_refresh
    from marts where last_refresh is not null
    union all
    select 'runner_leader_up', '{}', (
        select count(*) from metadata.leadership where runner is not null and heartbeat_at > now() - interval '1 minute'
    )
    union all
    select 'backfills_open', '{}', count(*) from metadata.backfills where status in ('pending', 'running', 'paused')
    union all
    select 'alerts_firing', jsonb_build_object('severity', s.severity), count(c.key)
    from unnest('{warning,critical}'::text[]) as s (severity)
    left join metadata.alert_conditions as c on c.severity = s.severity
    group by s.severity
$$;
comment on function metadata.metrics() is
'Freshness, SLA, leader, backfills and alerts as figures. One row per name and labels.';
revoke all on function metadata.metrics() from public;
grant execute on function metadata.metrics() to oversight_api;
