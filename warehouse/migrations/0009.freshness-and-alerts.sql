-- What late means, how well the SLA was kept, what should have run, and what operators are told of it.
-- depends: 0005.runs 0008.retention-and-backup

-- Each argument is used once, so that PostgreSQL inlines the two into whatever asks.
create function metadata.late_after(
    pending_since timestamptz, held_since timestamptz, stale_after timestamptz, sla_seconds integer
) returns timestamptz
language sql stable
return least(least(pending_since, held_since) + make_interval(secs => sla_seconds), stale_after);
comment on function metadata.late_after(timestamptz, timestamptz, timestamptz, integer) is
'When a mart becomes late: what waits or is withheld has used up the SLA, or a source is silent for too long; NULL never.';

create function metadata.freshness_status(last_refresh_at timestamptz, late_after timestamptz) returns text
language sql stable
return case when last_refresh_at is null then 'never' when late_after < now() then 'late' else 'fresh' end;
comment on function metadata.freshness_status(timestamptz, timestamptz) is 'fresh, late or never: the one definition.';

create function metadata.cron_values(expression text, lowest integer, highest integer, names text[]) returns integer[]
language sql immutable
return array(
    select v.value
    from regexp_split_to_table(lower(expression), ',') as item
    cross join regexp_match(item, '^(\*|\d+|[a-z]+)(?:-(\d+|[a-z]+))?(?:/(\d+))?') as part
    cross join lateral (
        select
            case when part[1] ~ '^\d' then part[1]::integer else array_position(names, part[1]) + lowest - 1 end,
            case when part[2] ~ '^\d' then part[2]::integer else array_position(names, part[2]) + lowest - 1 end,
            case when part[1] ~ '^[a-z]' then 1 else coalesce(part[3], '1')::integer end
    ) as given (first, last, step)
    cross join generate_series(
        case when part[1] = '*' then lowest else given.first end,
        case
            when part[1] = '*' or (part[1] ~ '^\d' and part[2] is null and part[3] is not null) then highest
            else coalesce(given.last, given.first)
        end,
        given.step
    ) as v (value)
);
comment on function metadata.cron_values(text, integer, integer, text[]) is
'The values of one field of a cron line, as APScheduler reads it; `names` stand for lowest and on.';

create function metadata.cron_slots(cadence text, first timestamptz, last timestamptz) returns setof timestamptz
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select (day + make_time(hour, minute, 0)) at time zone 'UTC' as slot
    from regexp_split_to_array(trim(cadence), '\s+') as field
    cross join generate_series(
        date_trunc('day', first at time zone 'UTC'), last at time zone 'UTC', interval '1 day'
    ) as day
    cross join unnest(metadata.cron_values(field[2], 0, 23, null)) as hour
    cross join unnest(metadata.cron_values(field[1], 0, 59, null)) as minute
    where
        (
            extract(day from day) = any(metadata.cron_values(field[3], 1, 31, null))
            or ('last' = any(string_to_array(lower(field[3]), ',')) and extract(day from day + interval '1 day') = 1)
        )
        and extract(month from day) = any(
            metadata.cron_values(field[4], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}')
        )
        and extract(isodow from day) - 1 = any(
            metadata.cron_values(field[5], 0, 6, '{mon,tue,wed,thu,fri,sat,sun}')
        )
        and (day + make_time(hour, minute, 0)) at time zone 'UTC' between first and last
$$;
comment on function metadata.cron_slots(text, timestamptz, timestamptz) is
'The slots of a cron line in UTC, both ends included, as APScheduler counts them: all five fields must agree.';

create view metadata.declared_marts with (security_invoker = true) as
select m ->> 'name' as mart, m ->> 'cadence' as cadence, (m ->> 'freshness_sla_seconds')::integer as sla_seconds
from (select content from metadata.catalogue order by catalogue_id desc limit 1) as c
cross join jsonb_array_elements(c.content -> 'marts') as m
where m ->> 'cadence' is not null;
comment on view metadata.declared_marts is 'The deployed marts that are refreshed. One row per mart.';

create view metadata.mart_status with (security_invoker = true) as
select
    d.mart,
    k.organization_id,
    f.last_refresh_at,
    f.data_through,
    extract(epoch from now() - f.data_through)::bigint as lag_seconds,
    d.sla_seconds,
    least(w.pending_since, f.held_since) as waiting_since,
    f.stale_after,
    l.late_after,
    metadata.freshness_status(f.last_refresh_at, l.late_after) as status,
    w.batches as waiting_batches,
    d.cadence
from metadata.declared_marts as d
left join (
    select model, organization_id from metadata.data_versions
    union
    select model, organization_id from metadata.waiting_batches
) as k on k.model = d.mart
left join metadata.mart_freshness as f on f.model = k.model and f.organization_id = k.organization_id
cross join lateral (
    select min(landed_at) as pending_since, count(*) as batches
    from metadata.waiting_batches
    where model = k.model and organization_id = k.organization_id
) as w
cross join lateral (
    select metadata.late_after(w.pending_since, f.held_since, f.stale_after, d.sla_seconds) as late_after
) as l;
comment on view metadata.mart_status is
'Freshness as the API says it; a mart that holds nothing yet has no organization. One row per mart and organization.';

create view metadata.job_slots with (security_invoker = true) as
select l.job_name, l.scheduled_for as slot, true as is_logged
from metadata.refresh_log as l
where l.scheduled_for between now() - interval '30 days' and now()
union all
select j.job_name, s.slot, false
from metadata.jobs as j
cross join metadata.cron_slots(j.cadence, greatest(j.since, now() - interval '30 days'), now()) as s (slot)
where s.slot > j.since and not exists (
    select from metadata.refresh_log as l where l.job_name = j.job_name and l.scheduled_for = s.slot
);
comment on view metadata.job_slots is
'Slots of the last 30 days: those in the log, and those since metadata.jobs.since that no runner logged. One row per job and slot.';

create view metadata.sla_report with (security_invoker = true) as
with moments as (
    select d.mart, d.sla_seconds, s.slot as happened_at, null::timestamptz as finished_at
    from metadata.declared_marts as d
    join metadata.job_slots as s on s.job_name = d.mart
    union all
    -- A run that began before a slot may have missed what landed until then; a runner's clock may be a little ahead.
    select d.mart, d.sla_seconds, greatest(l.started_at, l.scheduled_for), l.finished_at
    from metadata.declared_marts as d
    join metadata.refresh_log as l on l.job_name = d.mart or d.mart = any(l.models)
    where l.status = 'success' and l.started_at > now() - interval '31 days'
),

slots as (
    select
        mart,
        sla_seconds,
        happened_at as slot,
        finished_at is null as is_slot,
        min(finished_at) over (partition by mart order by happened_at desc) as served_at
    from moments
),

counted as (
    select
        mart,
        served_at is not null and served_at <= slot + make_interval(secs => sla_seconds) as is_met,
        extract(epoch from coalesce(served_at, now()) - slot) as lag_seconds
    from slots
    where is_slot and slot + make_interval(secs => sla_seconds) < now()
)

select
    d.mart,
    count(c.mart) as intervals,
    count(c.mart) filter (where c.is_met) as met,
    count(c.mart) filter (where not c.is_met) as missed,
    (count(c.mart) filter (where c.is_met))::numeric / nullif(count(c.mart), 0) as share,
    0.99 as goal,
    max(c.lag_seconds) as worst_lag_seconds
from metadata.declared_marts as d
left join counted as c on c.mart = d.mart
group by d.mart;
comment on view metadata.sla_report is
'Slots of the last 30 days that a successful run, begun in or after them, served within the SLA; those still inside it do not count yet. One row per mart.';

create view metadata.overdue_jobs with (security_invoker = true) as
select j.job_name, j.kind, count(*) as slots, min(s.slot) as overdue_since, l.last_slot
from metadata.jobs as j
left join metadata.declared_marts as d on d.mart = j.job_name
cross join lateral (
    -- A clock that was once ahead, or a request, may have left a slot that is still to come.
    select max(scheduled_for) as last_slot
    from metadata.refresh_log
    where job_name = j.job_name and scheduled_for <= now()
) as l
cross join metadata.cron_slots(
    j.cadence,
    -- All since the newest that was logged, or ever, and gaps of the last day.
    greatest(
        j.since, now() - interval '30 days', least(coalesce(l.last_slot, j.since), now() - interval '1 day')
    ),
    now() - greatest(interval '1 minute', least(interval '1 hour', make_interval(secs => coalesce(d.sla_seconds, 3600))))
) as s (slot)
where s.slot > j.since and not exists (
    select from metadata.refresh_log as r where r.job_name = j.job_name and r.scheduled_for = s.slot
)
group by j.job_name, j.kind, l.last_slot;
comment on view metadata.overdue_jobs is
'Jobs with slots that no runner logged, after a grace of their SLA, one hour at most. One row per job.';

create index on metadata.batches (engine, batch_id desc);

create view metadata.alert_conditions with (security_invoker = true) as
with ended as (
    -- A run that was cancelled says nothing of success, so it cures no failure.
    select r.*
    from metadata.jobs as j
    cross join lateral (
        select l.* from metadata.refresh_log as l
        where l.job_name = j.job_name and l.status in ('success', 'failed', 'abandoned')
        order by l.started_at desc, l.run_id desc limit 1
    ) as r
    union all
    -- What was asked for has no next slot that would cure it: it is told for a day.
    (
        select distinct on (l.job_name) l.*
        from metadata.refresh_log as l
        where
            l.started_at > now() - interval '1 day' and l.epoch is not null
            and l.status in ('success', 'failed', 'abandoned')
            and not exists (select from metadata.jobs as j where j.job_name = l.job_name)
        order by l.job_name, l.started_at desc, l.run_id desc
    )
),

-- Records of closed days are counted apart and are nothing to be told of. What is declared no more is told no more.
declared_tables as (
    select
        t ->> 'engine' as engine,
        t ->> 'name' as name,
        coalesce((t ->> 'max_rejected_share')::numeric, 0.01) as max_rejected_share
    from (select content from metadata.catalogue order by catalogue_id desc limit 1) as c
    cross join jsonb_array_elements(c.content -> 'sources') as t
),

newest_batches as (
    select b.*
    from (select distinct engine from declared_tables) as e
    cross join lateral (
        select engine, batch_id, status, report from metadata.batches
        where engine = e.engine order by batch_id desc limit 1
    ) as b
),

rejects as (
    select
        b.engine,
        f.source_table,
        b.batch_id,
        sum(f.rejected) as rejected,
        sum(f.read - coalesce(f.closed, 0)) as read,
        min(d.max_rejected_share) as max_rejected_share
    from newest_batches as b
    cross join jsonb_to_recordset(b.report -> 'files') as f (
        source_table text, read bigint, rejected bigint, closed bigint
    )
    join declared_tables as d on d.engine = b.engine and d.name = f.source_table
    where b.status = 'landed'
    group by b.engine, f.source_table, b.batch_id
)

select
    'run:' || job_name as key,
    'critical' as severity,
    format('%s %s', job_name, status) as title,
    format('run %s, started %s UTC: %s', run_id, to_char(started_at, 'YYYY-MM-DD HH24:MI'),
        left(coalesce(error_message, 'its process died'), 500)) as text
from ended
where status in ('failed', 'abandoned')
union all
select
    format('sla:%s:%s', mart, organization_id),
    case when late_after < now() - interval '1 minute' then 'critical' else 'warning' end,
    format('%s of %s %s', mart, organization_id,
        case when late_after < now() - interval '1 minute' then 'is late' else 'may become late' end),
    case
        when stale_after < now() and late_after = stale_after
            then format('a source has been silent for longer than its limit, since %s UTC',
                to_char(stale_after, 'YYYY-MM-DD HH24:MI'))
        else format('data waits since %s UTC; its %s minutes end at %s UTC',
            to_char(waiting_since, 'YYYY-MM-DD HH24:MI'), round(sla_seconds / 60.0, 1)::real,
            to_char(late_after, 'HH24:MI'))
    end
from metadata.mart_status as m
where
    late_after < now() - interval '1 minute'
    or (
        waiting_since + make_interval(secs => 0.8 * sla_seconds) < now()
        -- A cadence as long as the SLA uses it up every time: what counts is that a slot has passed, or none comes.
        and coalesce(
            (
                select min(s.slot) < now() - interval '30 seconds'
                from metadata.cron_slots(m.cadence, m.waiting_since, m.late_after) as s (slot)
            ),
            true
        )
    )
union all
select
    format('parity:%s:%s', mart, organization_id),
    'warning',
    format('%s of %s does not agree with its engines', mart, organization_id),
    format('keys that fail: %s; metadata/parity?verdict=failed shows them', count(distinct (partner_id, period)))
from metadata.declared_marts
join metadata.parity_verdicts using (mart)
where verdict <> 'ok' and verdict = 'failed'
group by mart, organization_id
union all
select
    format('rejected:%s.%s', engine, source_table),
    'warning',
    format('%s.%s: many records are rejected', engine, source_table),
    format('batch %s: %s of %s records, more than %s %%; staging.rejected_rows has every reason',
        batch_id, rejected, read, trim_scale(100 * max_rejected_share))
from rejects
where rejected > read * max_rejected_share
union all
select
    'rejected:' || engine,
    'warning',
    engine || ': the newest batch was rejected',
    format('batch %s: %s', batch_id, left(report ->> 'error', 500))
from newest_batches
where status = 'rejected'
union all
select
    'dead-man:' || job_name,
    'critical',
    job_name || ' does not run',
    format('slots without a run since %2$s UTC: %1$s; does `oversight schedule` live?',
        slots, to_char(overdue_since, 'YYYY-MM-DD HH24:MI'))
from metadata.overdue_jobs
union all
select
    'leader',
    'critical',
    'no runner leads',
    format('the last sign of one was at %s UTC; start `oversight schedule`',
        coalesce(to_char(heartbeat_at, 'YYYY-MM-DD HH24:MI'), 'no time'))
from metadata.leadership
where
    exists (select from metadata.jobs)
    and (heartbeat_at is null or heartbeat_at < now() - interval '1 minute')
union all
select
    'backup',
    'critical',
    'the newest backup is not proved',
    format('%s of %s UTC: %s', file, to_char(taken_at, 'YYYY-MM-DD HH24:MI'),
        left(coalesce(error, 'it was never restored to prove it'), 500))
from (
    -- One that is being taken or proved says nothing yet.
    select * from metadata.backups
    where proved_at is not null or error is not null or taken_at < now() - interval '3 hours'
    order by backup_id desc limit 1
) as b
where proved_at is null;
comment on view metadata.alert_conditions is 'What holds now and should be told. One row per key of an alert.';

create table metadata.alerts (
    alert_id bigint generated always as identity primary key,
    key text not null,
    severity text not null check (severity in ('warning', 'critical')),
    title text not null,
    text text not null,
    first_fired_at timestamptz not null default clock_timestamp(),
    last_seen_at timestamptz not null default clock_timestamp(),
    recovered_at timestamptz,
    told text[] not null default '{}',
    told_recovered text[] not null default '{}',
    notified_at timestamptz,
    claimed_until timestamptz,
    closed_at timestamptz,
    check (closed_at is null or recovered_at is not null)
);
comment on table metadata.alerts is
'What was fired and who was told. One row per key from firing to recovery.';
comment on column metadata.alerts.told is 'Sinks that took the news that it fired, by place and kind, never by address.';
comment on column metadata.alerts.notified_at is 'When a sink last took news of it; NULL none yet.';
comment on column metadata.alerts.claimed_until is 'Until then one runner is telling it; NULL nobody is.';
comment on column metadata.alerts.closed_at is 'When every sink knew that it is over; NULL not yet.';
create unique index alerts_open on metadata.alerts (key) where recovered_at is null;
create index alerts_untold on metadata.alerts (alert_id) where closed_at is null;

alter table metadata.alerts enable row level security;
create policy oversight_owner on metadata.alerts to oversight_owner using (true) with check (true);
grant select, insert, update, delete on metadata.alerts to oversight_owner;
grant select on
    metadata.declared_marts, metadata.mart_status, metadata.job_slots, metadata.sla_report, metadata.overdue_jobs,
    metadata.alert_conditions
to oversight_owner;
