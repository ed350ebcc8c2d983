-- The ledgers that landing, refresh and the API share. Only times that people read are clock times: what is
-- applied is known by batch and change numbers, so that a late commit is never missed.
-- depends: 0001.roles-and-schemas

create table metadata.instance (
    is_only boolean primary key default true check (is_only),
    instance_id uuid not null default gen_random_uuid(),
    project_dir text,
    created_at timestamptz not null default now()
);
comment on table metadata.instance is 'Which warehouse this is; dbt refuses to run against another. One row.';
insert into metadata.instance default values;

create table metadata.catalogue (
    catalogue_id bigint generated always as identity primary key,
    content_hash text not null,
    content jsonb not null,
    deployed_at timestamptz not null default now()
);
comment on table metadata.catalogue is 'The declarations that were deployed. One row per deployed catalogue; the highest id is served.';

create table metadata.batches (
    batch_id bigint generated always as identity primary key,
    engine text not null,
    status text not null check (status in ('landed', 'rejected')),
    path text not null,
    landed_at timestamptz not null default clock_timestamp(),
    report jsonb not null default '{}'
);
comment on table metadata.batches is 'One row per load of one engine, rejected ones included.';

create table metadata.batch_tables (
    batch_id bigint not null references metadata.batches,
    engine text not null,
    source_table text not null,
    organization_id text not null,
    accepted bigint not null default 0,
    voided bigint not null default 0,
    extracted_through timestamptz not null,
    landed_at timestamptz not null default clock_timestamp(),
    primary key (batch_id, source_table, organization_id)
);
comment on table metadata.batch_tables is 'What a batch holds. One row per batch, source table and organization.';
create index on metadata.batch_tables (engine, source_table, organization_id, batch_id);

create table metadata.landed_files (
    engine text not null,
    source_table text not null,
    sha256 text not null,
    batch_id bigint not null references metadata.batches,
    file_name text not null,
    bytes bigint not null,
    records bigint not null,
    primary key (engine, source_table, sha256)
);
comment on table metadata.landed_files is 'Files already landed; the same bytes are skipped. One row per source table and content.';

create table metadata.extract_windows (
    batch_id bigint not null references metadata.batches,
    engine text not null,
    source_table text not null,
    organization_id text not null,
    window_from date not null,
    window_to date not null,
    as_of timestamptz not null,
    primary key (batch_id, source_table, organization_id, window_from),
    check (window_from <= window_to)
);
comment on table metadata.extract_windows is
'The declared windows of snapshot extracts; -infinity to infinity means all. One row per batch, source table, organization and window.';
create index on metadata.extract_windows (engine, source_table, organization_id);

create table metadata.applied_batches (
    model text not null,
    batch_id bigint not null references metadata.batches,
    applied_at timestamptz not null default now(),
    primary key (model, batch_id)
);
comment on table metadata.applied_batches is 'The watermark: which model holds which batch. One row per model and batch.';

create table metadata.changes (
    change_id bigint generated always as identity primary key,
    model text not null,
    is_full boolean not null default false,
    changed_at timestamptz not null default now()
);
comment on table metadata.changes is 'What marts have to take over from facts. One row per refresh of a fact that changed it.';

create table metadata.touched_keys (
    change_id bigint not null references metadata.changes on delete cascade,
    organization_id text not null,
    key jsonb not null,
    primary key (change_id, organization_id, key)
);
comment on table metadata.touched_keys is 'Old and new places of changed records. One row per change and key; kept until every mart took it.';

create table metadata.applied_changes (
    model text not null,
    change_id bigint not null references metadata.changes on delete cascade,
    primary key (model, change_id)
);
create index on metadata.applied_changes (change_id);
comment on table metadata.applied_changes is 'Which mart has taken which change. One row per mart and change.';

create table metadata.held_keys (
    model text not null,
    organization_id text not null,
    key jsonb not null,
    held_since timestamptz not null default now(),
    primary key (model, organization_id, key)
);
comment on table metadata.held_keys is
'Keys whose newest values failed parity and are withheld (parity: hold). One row per mart and key.';

create table metadata.mart_sources (
    model text not null,
    engine text not null,
    source_table text not null,
    primary key (model, engine, source_table)
);
comment on table metadata.mart_sources is 'Lineage as of the mart''s last refresh. One row per mart and source table.';

create table metadata.data_versions (
    model text not null,
    organization_id text not null,
    version bigint not null default 1,
    last_refresh_at timestamptz not null default now(),
    data_through timestamptz,
    stale_after timestamptz,
    primary key (model, organization_id)
);
comment on table metadata.data_versions is
'What a caller sees as a mart''s version; past stale_after a source has been silent for too long. One row per mart and organization.';

create table metadata.parity_verdicts (
    organization_id text not null,
    mart text not null,
    partner_id text,
    period date,
    metric text not null,
    mart_value numeric,
    control_value numeric,
    difference numeric,
    tolerance numeric,
    minor_unit numeric,
    verdict text not null check (verdict in ('ok', 'failed', 'unchecked')),
    checked_at timestamptz not null default now(),
    unique nulls not distinct (organization_id, mart, partner_id, period, metric)
);
comment on table metadata.parity_verdicts is
'Newest verdict. One row per organization, mart, partner, period and metric; a NULL period is the total.';
create index on metadata.parity_verdicts (mart, organization_id, period) where verdict <> 'ok';

create table metadata.parity_history (
    parity_history_id bigint generated always as identity primary key,
    organization_id text not null,
    mart text not null,
    partner_id text,
    period date,
    metric text not null,
    old_verdict text,
    new_verdict text not null,
    mart_value numeric,
    control_value numeric,
    changed_at timestamptz not null default now()
);
comment on table metadata.parity_history is 'Changes of verdict. One row per change.';

create table metadata.refresh_log (
    run_id bigint generated always as identity primary key,
    job_name text not null,
    scheduled_for timestamptz,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    status text not null default 'running'
    check (status in ('running', 'success', 'failed', 'cancelled', 'abandoned', 'missed', 'skipped_overlap')),
    rows_affected bigint,
    error_message text,
    models text[] not null default '{}',
    invocation_id text,
    check ((status = 'running') = (finished_at is null))
);
comment on table metadata.refresh_log is 'One row per run of a job, written before it starts and closed after.';
create index on metadata.refresh_log (started_at desc);

create table metadata.refresh_log_model (
    run_id bigint not null references metadata.refresh_log,
    model text not null,
    rows_inserted bigint not null,
    rows_deleted bigint not null,
    finished_at timestamptz not null default clock_timestamp(),
    primary key (run_id, model)
);
comment on table metadata.refresh_log_model is 'Counted rows. One row per run and model.';

create table metadata.principals (
    principal_id uuid primary key default gen_random_uuid(),
    name text not null unique,
    key_sha256 bytea not null unique check (length(key_sha256) = 32),
    role text not null,
    scope jsonb not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
comment on table metadata.principals is
'Who may call the API; keys are kept as SHA-256. scope maps a scope name to a list of ids, ["*"] means all. One row per key.';

create table metadata.analyst_scopes (
    login text not null,
    scope_name text not null,
    ids text[] not null,
    primary key (login, scope_name)
);
comment on table metadata.analyst_scopes is
'What a person with direct SQL may see: ids per scope name, {*} means all. One row per login and scope.';

create function metadata.analyst_may_see(scope_name text, id text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from metadata.analyst_scopes as s
        where s.login = session_user and s.scope_name = $1 and ('*' = any(s.ids) or $2 = any(s.ids))
    )
$$;
comment on function metadata.analyst_may_see(text, text) is
'The analyst''s policy: asks who logged in, never a setting, which anyone who types SQL could change.';
revoke all on function metadata.analyst_may_see(text, text) from public;
grant execute on function metadata.analyst_may_see(text, text) to oversight_analyst;

create function metadata.scope_ids(scope_name text) returns text[]
language sql stable
as $$
    select case
        when pg_catalog.current_setting('oversight.scope_' || $1, true) ~ '^\{[^{}",\\]+(,[^{}",\\]+)*\}$'
            then pg_catalog.string_to_array(
                pg_catalog.btrim(pg_catalog.current_setting('oversight.scope_' || $1, true), '{}'), ','
            )
        else '{}'::text[]
    end
$$;
comment on function metadata.scope_ids(text) is
'The ids of a scope setting such as {a,b}; unset, empty or malformed gives none. Plain enough to be inlined.';
