drop index metadata.parity_verdicts_mart_verdict_organization_id_period_idx;
create index on metadata.parity_verdicts (mart, organization_id, period) where verdict <> 'ok';

grant select on metadata.applied_batches, metadata.mart_sources to oversight_reader;
grant select on metadata.batch_tables to oversight_reader, oversight_analyst;
create policy reader on metadata.mart_sources for select to oversight_reader using (true);
create policy reader on metadata.applied_batches for select to oversight_reader using (true);
create policy reader on metadata.batch_tables for select to oversight_reader using (
    '*' = any(metadata.scope_ids('organization')) or organization_id = any(metadata.scope_ids('organization'))
);
create policy analyst on metadata.batch_tables for select to oversight_analyst using (
    metadata.analyst_may_see('organization', organization_id)
);

create or replace view metadata.mart_freshness with (security_invoker = true) as
select
    v.model,
    v.organization_id,
    v.version,
    v.last_refresh_at,
    v.data_through,
    (
        select min(t.landed_at)
        from metadata.mart_sources as s
        join metadata.batch_tables as t
            on t.engine = s.engine and t.source_table = s.source_table
        where
            s.model = v.model and t.organization_id = v.organization_id
            and not exists (
                select from metadata.applied_batches as a where a.model = v.model and a.batch_id = t.batch_id
            )
    ) as pending_since,
    (
        select min(h.held_since)
        from metadata.held_keys as h
        where h.model = v.model and h.organization_id = v.organization_id
    ) as held_since,
    v.stale_after
from metadata.data_versions as v;

drop trigger notes_waiting_batches on metadata.batch_tables;
drop function metadata.note_waiting_batches();
drop table metadata.waiting_batches;
