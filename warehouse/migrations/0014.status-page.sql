-- What the status page shows beyond freshness: how long data waited, how the SLA was kept, backfills, alerts.
-- depends: 0010.pg-cron

create table metadata.mart_waits (
    model text not null,
    organization_id text not null,
    hour timestamptz not null,
    batches bigint not null default 0,
    longest_seconds double precision not null,
    primary key (model, organization_id, hour)
);
comment on table metadata.mart_waits is
'The longest that a landed batch waited until the mart took it, by the hour in which it did; 40 days are kept. One row per mart, organization and hour.';

create function metadata.note_waits() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into metadata.mart_waits as m (model, organization_id, hour, batches, longest_seconds)
    select
        w.model,
        w.organization_id,
        date_trunc('hour', clock_timestamp(), 'UTC'),
        count(*),
        greatest(0, extract(epoch from clock_timestamp() - min(w.landed_at)))
    from taken as t
    join metadata.waiting_batches as w on w.model = t.model and w.batch_id = t.batch_id
    group by w.model, w.organization_id
    on conflict (model, organization_id, hour) do update set
        batches = m.batches + excluded.batches,
        longest_seconds = greatest(m.longest_seconds, excluded.longest_seconds);

    delete from metadata.mart_waits as m
    using (select distinct model from taken) as t
    where m.model = t.model and m.hour < now() - interval '40 days';
    return null;
end
$$;
comment on function metadata.note_waits() is
'A mart that takes batches notes how long they waited, before they are off the list of what waits.';
revoke all on function metadata.note_waits() from public;

create trigger notes_waits after insert on metadata.applied_batches
referencing new table as taken for each statement execute function metadata.note_waits();

insert into metadata.mart_waits (model, organization_id, hour, batches, longest_seconds)
select
    a.model,
    t.organization_id,
    date_trunc('hour', a.applied_at, 'UTC'),
    count(distinct a.batch_id),
    greatest(0, max(extract(epoch from a.applied_at - t.landed_at)))
from metadata.applied_batches as a
join metadata.batch_tables as t on t.batch_id = a.batch_id
join metadata.mart_sources as s on s.model = a.model and s.engine = t.engine and s.source_table = t.source_table
where a.applied_at > now() - interval '40 days'
group by a.model, t.organization_id, date_trunc('hour', a.applied_at, 'UTC');

alter table metadata.mart_waits enable row level security;
create policy oversight_owner on metadata.mart_waits to oversight_owner using (true) with check (true);
grant select, insert, update, delete on metadata.mart_waits to oversight_owner;
create policy reader on metadata.mart_waits for select to oversight_reader using (
    '*' = any(metadata.scope_ids('organization')) or organization_id = any(metadata.scope_ids('organization'))
);
grant select on metadata.mart_waits to oversight_reader;

-- Readers may not ask the catalogue, the jobs or the backfills themselves: these name organizations.
create function metadata.visible_sla() returns table (
    mart text, intervals bigint, met bigint, share numeric, goal numeric
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select r.mart, r.intervals, r.met, r.share, r.goal from metadata.sla_report as r
$$;
comment on function metadata.visible_sla() is
'How the SLA was kept, for readers; slots are those of a mart and tell of no organization. One row per mart.';

create function metadata.visible_backfills() returns table (
    backfill_id bigint, engine text, first_week text, last_week text, status text, weeks bigint, weeks_done bigint,
    weeks_skipped bigint, weeks_failed bigint, percent numeric, running_week text, requested_at timestamptz
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select
        b.backfill_id, b.engine, b.first_week, b.last_week, b.status, b.weeks, b.weeks_done, b.weeks_skipped,
        b.weeks_failed, b.percent, b.running_week, b.requested_at
    from metadata.backfill_progress as b
    where
        b.status in ('pending', 'running', 'paused')
        and (
            '*' = any(metadata.scope_ids('organization'))
            or exists (
                select from metadata.batch_tables as t
                where t.engine = b.engine and t.organization_id = any(metadata.scope_ids('organization'))
            )
        )
$$;
comment on function metadata.visible_backfills() is
'Backfills that have not ended, of engines that hold something of the reader''s organizations. One row per backfill.';

create function metadata.visible_alerts() returns table (
    severity text, title text, text text, first_fired_at timestamptz
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select c.severity, c.title, c.text, a.first_fired_at
    from metadata.alert_conditions as c
    left join metadata.alerts as a on a.key = c.key and a.recovered_at is null
    where '*' = any(metadata.scope_ids('organization'))
$$;
comment on function metadata.visible_alerts() is
'What holds now and should be told, for readers who see all organizations; it names them. One row per alert.';

revoke all on function
metadata.visible_sla(), metadata.visible_backfills(), metadata.visible_alerts() from public;
grant execute on function
metadata.visible_sla(), metadata.visible_backfills(), metadata.visible_alerts() to oversight_reader;
