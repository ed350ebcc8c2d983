-- What several runners have to agree on: who leads, which slot was taken, what was asked for, how each run ended.
-- depends: 0004.waiting-batches

alter table metadata.refresh_log
add column heartbeat_at timestamptz not null default clock_timestamp(),
add column lead_run_id bigint references metadata.refresh_log,
add column epoch bigint,
add column attempts integer not null default 1,
add column cancel_requested_at timestamptz,
add column dbt_version text,
add column project_version text;
comment on column metadata.refresh_log.heartbeat_at is 'When its process last said that it lives.';
comment on column metadata.refresh_log.lead_run_id is
'The run whose dbt did the work of this one too; NULL when it did its own.';
comment on column metadata.refresh_log.epoch is 'The leadership that started it; NULL when a person did.';
comment on column metadata.refresh_log.cancel_requested_at is
'Set by whoever wants it cancelled; its process looks every second.';

create unique index refresh_log_slot on metadata.refresh_log (job_name, scheduled_for);
create index refresh_log_running on metadata.refresh_log (run_id) where status = 'running';
create index refresh_log_job on metadata.refresh_log (job_name, started_at desc);

create function metadata.keep_final_state() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'run % has ended as % already and stays so', old.run_id, old.status
        using errcode = 'object_not_in_prerequisite_state';
end
$$;
comment on function metadata.keep_final_state() is 'Exactly one final state: what has ended is not written again.';
create trigger final_state_stays before update on metadata.refresh_log
for each row when (old.status <> 'running') execute function metadata.keep_final_state();

create function metadata.require_running(of_run_id bigint) returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from metadata.refresh_log where run_id = of_run_id and status = 'running') then
        raise exception 'run % is over: another runner has taken its place, or it was cancelled', of_run_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;
end
$$;
comment on function metadata.require_running(bigint) is
'The fence of a run that was frozen and woke up: its models refuse to start.';

alter table metadata.refresh_log_model
add column rows_updated bigint not null default 0,
add column seconds double precision;
comment on column metadata.refresh_log_model.rows_updated is
'Rows that stood there before and were written again, changed or not; not counted as inserted or deleted.';
comment on column metadata.refresh_log_model.seconds is 'From the start of the model''s transaction to its end.';

create table metadata.leadership (
    is_only boolean primary key default true check (is_only),
    epoch bigint not null default 0,
    runner text,
    backend_pid integer,
    taken_at timestamptz,
    heartbeat_at timestamptz
);
comment on table metadata.leadership is
'Which runner leads; each new leader raises the epoch, and writes of an older one are refused. One row.';
insert into metadata.leadership default values;

create table metadata.jobs (
    job_name text primary key,
    kind text not null check (kind in ('refresh', 'pull', 'nightly', 'weekly')),
    cadence text not null,
    clock text not null default 'runner' check (clock in ('runner', 'pg_cron')),
    since timestamptz not null default clock_timestamp()
);
comment on table metadata.jobs is
'What the runner has to do when, from the deployed catalogue; slots before `since` were never due. One row per job.';

create table metadata.job_requests (
    request_id bigint generated always as identity primary key,
    kind text not null check (kind in ('refresh', 'pull', 'backfill', 'nightly', 'weekly')),
    arguments jsonb not null default '{}',
    idempotency_key text not null unique default gen_random_uuid()::text,
    scheduled_for timestamptz check (scheduled_for between '2000-01-01' and '2200-01-01'),
    requested_by text not null default session_user,
    requested_at timestamptz not null default clock_timestamp(),
    status text not null default 'pending'
    check (status in ('pending', 'running', 'done', 'failed', 'cancelled')),
    run_id bigint references metadata.refresh_log,
    finished_at timestamptz,
    error_message text,
    check ((finished_at is not null) = (status in ('done', 'failed', 'cancelled'))),
    check (jsonb_typeof(arguments) = 'object' and jsonb_typeof(coalesce(arguments -> 'marts', '[]')) = 'array')
);
comment on table metadata.job_requests is
'What others ask of the runner; the same key twice is one request. One row per request.';
create index job_requests_open on metadata.job_requests (request_id) where finished_at is null;

create function metadata.notify_request() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('oversight_requests', new.request_id::text);
    return null;
end
$$;
create trigger notifies after insert on metadata.job_requests
for each row execute function metadata.notify_request();

do $$
declare
    table_name text;
begin
    foreach table_name in array array['metadata.leadership', 'metadata.jobs', 'metadata.job_requests'] loop
        execute format('alter table %s enable row level security', table_name);
        execute format(
            'create policy oversight_owner on %s to oversight_owner using (true) with check (true)', table_name
        );
        execute format('grant select, insert, update, delete on %s to oversight_owner', table_name);
    end loop;
end
$$;
