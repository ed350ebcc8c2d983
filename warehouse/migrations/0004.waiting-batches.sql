-- What marts have not taken yet is kept as such: asking for it costs what waits, not all that ever landed.
-- depends: 0003.access

create table metadata.waiting_batches (
    model text not null,
    organization_id text not null,
    batch_id bigint not null references metadata.batches,
    landed_at timestamptz not null,
    primary key (model, organization_id, batch_id)
);
comment on table metadata.waiting_batches is
'Landed batches that a mart has not taken. One row per mart, organization and batch; gone when the mart took it.';

insert into metadata.waiting_batches (model, organization_id, batch_id, landed_at)
select s.model, t.organization_id, t.batch_id, min(t.landed_at)
from metadata.mart_sources as s
join metadata.batch_tables as t on t.engine = s.engine and t.source_table = s.source_table
where not exists (
    select from metadata.applied_batches as a where a.model = s.model and a.batch_id = t.batch_id
)
group by s.model, t.organization_id, t.batch_id;

create function metadata.note_waiting_batches() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into metadata.waiting_batches (model, organization_id, batch_id, landed_at)
    select s.model, t.organization_id, t.batch_id, min(t.landed_at)
    from landed as t
    join metadata.mart_sources as s on s.engine = t.engine and s.source_table = t.source_table
    group by s.model, t.organization_id, t.batch_id
    on conflict do nothing;
    return null;
end
$$;
comment on function metadata.note_waiting_batches() is
'A batch waits from its commit on, for every mart that counts its tables; the mart''s refresh takes it off.';
revoke all on function metadata.note_waiting_batches() from public;

create trigger notes_waiting_batches after insert on metadata.batch_tables
referencing new table as landed for each statement execute function metadata.note_waiting_batches();

alter table metadata.waiting_batches enable row level security;
create policy oversight_owner on metadata.waiting_batches to oversight_owner using (true) with check (true);
grant select, insert, update, delete on metadata.waiting_batches to oversight_owner;
create policy reader on metadata.waiting_batches for select to oversight_reader using (
    '*' = any(metadata.scope_ids('organization')) or organization_id = any(metadata.scope_ids('organization'))
);
create policy analyst on metadata.waiting_batches for select to oversight_analyst using (
    metadata.analyst_may_see('organization', organization_id)
);
grant select on metadata.waiting_batches to oversight_reader, oversight_analyst;

create or replace view metadata.mart_freshness with (security_invoker = true) as
select
    v.model,
    v.organization_id,
    v.version,
    v.last_refresh_at,
    v.data_through,
    (
        select min(w.landed_at)
        from metadata.waiting_batches as w
        where w.model = v.model and w.organization_id = v.organization_id
    ) as pending_since,
    (
        select min(h.held_since)
        from metadata.held_keys as h
        where h.model = v.model and h.organization_id = v.organization_id
    ) as held_since,
    v.stale_after
from metadata.data_versions as v;

-- The view was the readers' only use of these, and batch numbers tell of other organizations.
drop policy reader on metadata.batch_tables;
drop policy analyst on metadata.batch_tables;
drop policy reader on metadata.applied_batches;
drop policy reader on metadata.mart_sources;
revoke select on metadata.batch_tables from oversight_reader, oversight_analyst;
revoke select on metadata.applied_batches, metadata.mart_sources from oversight_reader;

-- Finding a failed key must not walk through all that are unchecked.
drop index metadata.parity_verdicts_mart_organization_id_period_idx;
create index on metadata.parity_verdicts (mart, verdict, organization_id, period) where verdict <> 'ok';
