-- Row-level security on every table made here (default deny), grants, and the guards of raw tables.
-- depends: 0002.metadata

create table staging.rejected_rows (
    rejected_row_id bigint generated always as identity primary key,
    batch_id bigint not null references metadata.batches,
    engine text not null,
    source_table text not null,
    file_name text not null,
    record_number bigint,
    reasons text[] not null,
    record text,
    rejected_at timestamptz not null default clock_timestamp()
);
comment on table staging.rejected_rows is 'Records that could not be landed, with every reason. One row per record.';

create function metadata.refuse_change() returns trigger
language plpgsql
as $$
begin
    raise exception '%.% is append-only: % is refused', tg_table_schema, tg_table_name, tg_op
        using errcode = 'insufficient_privilege',
        hint = 'Land a corrected or withdrawn version of the record instead.';
end
$$;
comment on function metadata.refuse_change() is 'The guard of append-only tables, for raw extracts and audit trails.';

create trigger is_append_only before update or delete or truncate on staging.rejected_rows
for each statement execute function metadata.refuse_change();

do $$
declare
    item record;
begin
    for item in
        select c.oid::regclass as name
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname in ('metadata', 'staging') and c.relkind in ('r', 'p')
        and c.relname not like '%yoyo%'
    loop
        execute format('alter table %s enable row level security', item.name);
        execute format(
            'create policy oversight_owner on %s to oversight_owner using (true) with check (true)', item.name
        );
        execute format('grant select, insert, update, delete on %s to oversight_owner', item.name);
    end loop;
end
$$;

grant usage on all sequences in schema metadata to oversight_owner, oversight_loader;
grant usage on all sequences in schema staging to oversight_loader;
revoke update, delete on staging.rejected_rows from oversight_owner;

-- The loader appends; it never changes what is landed.
do $$
declare
    table_name text;
begin
    foreach table_name in array array[
        'metadata.batches', 'metadata.batch_tables', 'metadata.landed_files', 'metadata.extract_windows',
        'staging.rejected_rows'
    ] loop
        execute format('grant select, insert on %s to oversight_loader', table_name);
        execute format('create policy loader_reads on %s for select to oversight_loader using (true)', table_name);
        execute format('create policy loader_adds on %s for insert to oversight_loader with check (true)', table_name);
    end loop;
end
$$;
grant update on metadata.batches to oversight_loader;
create policy loader_reports on metadata.batches for update to oversight_loader using (true) with check (true);

-- The API reads what it needs to know who calls and what is declared.
grant select on metadata.catalogue, metadata.principals, metadata.instance to oversight_api;
grant update (last_used_at) on metadata.principals to oversight_api;
create policy api_reads on metadata.catalogue for select to oversight_api using (true);
create policy api_reads on metadata.instance for select to oversight_api using (true);
create policy api_reads on metadata.principals for select to oversight_api using (true);
create policy api_marks_use on metadata.principals for update to oversight_api using (true) with check (true);

-- Readers see the freshness and the parity of their own scope.
do $$
declare
    table_name text;
begin
    foreach table_name in array array[
        'metadata.data_versions', 'metadata.batch_tables', 'metadata.held_keys', 'metadata.parity_verdicts'
    ] loop
        execute format('grant select on %s to oversight_reader, oversight_analyst', table_name);
    end loop;
    foreach table_name in array array['metadata.data_versions', 'metadata.batch_tables', 'metadata.held_keys'] loop
        execute format(
            'create policy reader on %s for select to oversight_reader using ('
            '''*'' = any(metadata.scope_ids(''organization''))'
            ' or organization_id = any(metadata.scope_ids(''organization'')))', table_name
        );
        execute format(
            'create policy analyst on %s for select to oversight_analyst using ('
            'metadata.analyst_may_see(''organization'', organization_id))', table_name
        );
    end loop;
end
$$;
create policy reader on metadata.parity_verdicts for select to oversight_reader using (
    ('*' = any(metadata.scope_ids('organization')) or organization_id = any(metadata.scope_ids('organization')))
    and ('*' = any(metadata.scope_ids('partner')) or partner_id = any(metadata.scope_ids('partner')))
);
create policy analyst on metadata.parity_verdicts for select to oversight_analyst using (
    metadata.analyst_may_see('organization', organization_id)
    and metadata.analyst_may_see('partner', partner_id)
);
-- Lineage and numbers of batches tell of no organization; runs are for those whose role may read them.
grant select on metadata.mart_sources, metadata.applied_batches, metadata.refresh_log to oversight_reader;
create policy reader on metadata.mart_sources for select to oversight_reader using (true);
create policy reader on metadata.applied_batches for select to oversight_reader using (true);
create policy reader on metadata.refresh_log for select to oversight_reader using (true);

-- Freshness per mart and organization, for any reader in the limits of its policies.
create view metadata.mart_freshness with (security_invoker = true) as
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
comment on view metadata.mart_freshness is
'Version, freshness, oldest landed batch that the mart has not taken, oldest withheld key. One row per mart and organization.';
grant select on metadata.mart_freshness to oversight_reader, oversight_owner;
