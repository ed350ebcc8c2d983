-- What administrators ask for: a trail of it that nobody changes, and the few things that the API may do for them.
-- depends: 0010.pg-cron

create table metadata.audit_log (
    audit_id bigint generated always as identity primary key,
    call_id uuid not null unique,
    called_at timestamptz not null default clock_timestamp(),
    principal_id text not null,
    principal_name text not null,
    role text not null,
    method text not null,
    path text not null,
    action text,
    body jsonb check (octet_length(body::text) <= 16384),
    idempotency_key text,
    client_address inet,
    request_id text not null,
    status smallint not null,
    outcome text not null,
    job_request_id bigint
);
comment on table metadata.audit_log is
'Who asked what of the administration, and what came of it; written with what it tells of. One row per call by a known caller.';
comment on column metadata.audit_log.call_id is 'Made by the API for each call, so that one is written once, however often it is sent.';
comment on column metadata.audit_log.principal_name is
'The name of the key, or the subject of the session: the only place that keeps it.';
comment on column metadata.audit_log.action is 'The operation, as in the OpenAPI document; NULL for an address that is not served.';
comment on column metadata.audit_log.body is 'What was asked, as it was understood; the text that was sent, cut, when it was refused; NULL without a body.';
comment on column metadata.audit_log.client_address is 'Of the caller, or of the proxy that none is trusted behind; NULL when unknown.';
comment on column metadata.audit_log.request_id is 'The X-Request-Id of call and answer.';
comment on column metadata.audit_log.status is 'Of HTTP.';
comment on column metadata.audit_log.outcome is 'What was done, or the code of the problem.';
comment on column metadata.audit_log.job_request_id is 'The row of metadata.job_requests that it made or changed; NULL when there is none.';
create index audit_log_called_at on metadata.audit_log (called_at);

-- Only of raw tables can a newer version land.
create or replace function metadata.refuse_change() returns trigger
language plpgsql
as $$
begin
    if tg_op = 'DELETE' and current_user = 'oversight_retention' then
        return null;
    end if;
    raise exception '%.% is append-only: % is refused', tg_table_schema, tg_table_name, tg_op
        using errcode = 'insufficient_privilege',
        hint = case
            when tg_table_schema = 'staging' then 'Land a corrected or withdrawn version of a record instead; old'
            else 'Old'
        end || ' rows go by `oversight retire`.';
end
$$;
create trigger is_append_only before update or delete or truncate on metadata.audit_log
for each statement execute function metadata.refuse_change();

alter table metadata.job_requests
add column fingerprint text,
add column lead_request_id bigint references metadata.job_requests;
comment on column metadata.job_requests.fingerprint is
'SHA-256 of what was asked with the key: the same key may not ask for something else. NULL when nobody compares.';
comment on column metadata.job_requests.lead_request_id is
'The first of the requests that one call made; NULL for that one and for those made alone.';
create index job_requests_lead on metadata.job_requests (lead_request_id) where lead_request_id is not null;

-- Whoever asks with a key that another call is just using waits for that, as long as its lock_timeout says.
create function metadata.request_job(
    of_kind text, of_arguments jsonb, of_key text, of_fingerprint text, by_name text, of_status text,
    out outcome text, out job_request_id bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into metadata.job_requests as r (kind, arguments, idempotency_key, fingerprint, requested_by, status)
    values (of_kind, of_arguments, of_key, of_fingerprint, by_name, of_status)
    on conflict (idempotency_key) do nothing
    returning r.request_id into job_request_id;
    outcome := 'accepted';
    if job_request_id is null then
        select r.request_id, case when r.fingerprint is distinct from of_fingerprint then 'key_reused' else 'replayed' end
        into strict job_request_id, outcome
        from metadata.job_requests as r where r.idempotency_key = of_key;
    end if;
exception
    when lock_not_available then
        outcome := 'in_progress';
        job_request_id := null;
end
$$;
comment on function metadata.request_job(text, jsonb, text, text, text, text) is
'Asks the runner for something once per key: accepted, replayed, key_reused (for something else) or in_progress.';

create function metadata.request_pulls(
    of_engines text[], of_key text, of_fingerprint text, by_name text,
    out outcome text, out job_request_id bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    engines text[] := array(
        select engine from unnest(of_engines) as engine
        where exists (select from metadata.jobs as j where j.kind = 'pull' and j.job_name = 'pull ' || engine)
        order by engine
    );
begin
    if cardinality(engines) = 0 and not exists (
        select from metadata.job_requests as r where r.idempotency_key = of_key
    ) then
        outcome := 'nothing_to_pull';
        return;
    end if;
    select r.outcome, r.job_request_id into outcome, job_request_id
    from metadata.request_job(
        'pull', jsonb_build_object('engine', engines[1]), of_key, of_fingerprint, by_name, 'pending'
    ) as r;
    if outcome = 'accepted' then
        insert into metadata.job_requests (kind, arguments, idempotency_key, fingerprint, requested_by, lead_request_id)
        select
            'pull', jsonb_build_object('engine', engine), format('pull %s of %s', engine, of_key), of_fingerprint, by_name,
            job_request_id
        from unnest(engines[2:]) as engine;
    end if;
end
$$;
comment on function metadata.request_pulls(text[], text, text, text) is
'Asks for a pull of each engine whose address the runner knows; gives back the first request.';

create function metadata.make_backfill(
    of_request_id bigint, of_engine text, of_first_week date, of_last_week date, most_weeks integer, attempts integer
) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    made bigint;
begin
    insert into metadata.backfills as b
        (engine, first_week, last_week, max_weeks, max_attempts, request_id, requested_by)
    select of_engine, of_first_week, of_last_week, most_weeks, attempts, r.request_id, r.requested_by
    from metadata.job_requests as r where r.request_id = of_request_id
    on conflict (request_id) do nothing
    returning b.backfill_id into made;
    if made is null then
        return (select b.backfill_id from metadata.backfills as b where b.request_id = of_request_id);
    end if;
    insert into metadata.backfill_weeks (backfill_id, week, last_attempt)
    select made, week::date, attempts
    from generate_series(of_first_week::timestamp, of_last_week::timestamp, interval '7 days') as week;
    return made;
end
$$;
comment on function metadata.make_backfill(bigint, text, date, date, integer, integer) is
'The backfill of a request with all its weeks, made when it is not there yet.';

create function metadata.request_backfill(
    of_engine text, of_first_week date, of_last_week date, most_weeks integer, attempts integer,
    of_key text, of_fingerprint text, by_name text, of_status text, only_known boolean,
    out outcome text, out job_request_id bigint, out backfill_id bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if
        only_known
        and not exists (select from metadata.jobs as j where j.kind = 'pull' and j.job_name = 'pull ' || of_engine)
        and not exists (select from metadata.job_requests as r where r.idempotency_key = of_key)
    then
        outcome := 'nothing_to_pull';
        return;
    end if;
    select r.outcome, r.job_request_id into outcome, job_request_id
    from metadata.request_job(
        'backfill',
        jsonb_build_object(
            'engine', of_engine,
            'from', to_char(of_first_week, 'IYYY-"W"IW'),
            'to', to_char(of_last_week, 'IYYY-"W"IW')
        ),
        of_key, of_fingerprint, by_name, of_status
    ) as r;
    if outcome in ('accepted', 'replayed') then
        backfill_id := metadata.make_backfill(
            job_request_id, of_engine, of_first_week, of_last_week, most_weeks, attempts
        );
    end if;
end
$$;
comment on function metadata.request_backfill(
    text, date, date, integer, integer, text, text, text, text, boolean
) is
'Asks for weeks of an engine, named by their Mondays, once per key; with only_known if the runner knows its address.';

-- Each of the three says ok, unknown, or the status that stands against it.
create function metadata.pause_backfill(of_backfill_id bigint, out outcome text, out job_request_id bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    select b.status, b.request_id into outcome, job_request_id
    from metadata.backfills as b where b.backfill_id = of_backfill_id for update;
    if not found then
        outcome := 'unknown';
    elsif outcome in ('pending', 'running', 'paused') then
        update metadata.backfills as b set status = 'paused' where b.backfill_id = of_backfill_id;
        outcome := 'ok';
    end if;
end
$$;
comment on function metadata.pause_backfill(bigint) is 'Nothing is done after the week under way, until it is resumed.';

create function metadata.cancel_backfill(of_backfill_id bigint, out outcome text, out job_request_id bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    select b.status, b.request_id into outcome, job_request_id
    from metadata.backfills as b where b.backfill_id = of_backfill_id for update;
    if not found then
        outcome := 'unknown';
        return;
    elsif outcome = 'done' then
        return;
    elsif outcome <> 'cancelled' then
        update metadata.backfills as b set status = 'cancelled', finished_at = clock_timestamp()
        where b.backfill_id = of_backfill_id;
        update metadata.job_requests as r
        set status = 'cancelled', run_id = b.run_id, finished_at = b.finished_at, error_message = b.error_message
        from metadata.backfills as b
        where b.backfill_id = of_backfill_id and r.request_id = b.request_id;
        update metadata.refresh_log as l set cancel_requested_at = clock_timestamp()
        from metadata.backfills as b
        where b.backfill_id = of_backfill_id and l.run_id = b.run_id and l.status = 'running';
    end if;
    outcome := 'ok';
end
$$;
comment on function metadata.cancel_backfill(bigint) is
'It ends for good; the week under way is broken off where that can be done. One that failed is closed, and its alert ends.';

alter view metadata.alert_conditions rename to alert_findings;
comment on view metadata.alert_findings is
'What is found to be wrong, failed backfills that somebody has closed too. One row per key of an alert.';
create view metadata.alert_conditions with (security_invoker = true) as
select f.*
from metadata.alert_findings as f
where not exists (
    select from metadata.backfills as b where b.status = 'cancelled' and f.key = 'run:backfill ' || b.backfill_id
);
comment on view metadata.alert_conditions is 'What holds now and should be told. One row per key of an alert.';
grant select on metadata.alert_conditions to oversight_owner;

create function metadata.resume_backfill(
    of_backfill_id bigint, only_failed boolean, of_status text, out outcome text, out job_request_id bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    found_backfill metadata.backfills;
begin
    select * into found_backfill from metadata.backfills as b where b.backfill_id = of_backfill_id for update;
    if not found then
        outcome := 'unknown';
        return;
    end if;
    job_request_id := found_backfill.request_id;
    outcome := found_backfill.status;
    if outcome in ('done', 'cancelled') then
        return;
    end if;
    -- The lock of runner/backfill/turn.py: whoever works on a backfill of the engine has it.
    if outcome = 'running' and not pg_try_advisory_xact_lock(
        hashtextextended('oversight backfill engine ' || found_backfill.engine, 0)
    ) then
        return;
    end if;
    if only_failed and not exists (
        select from metadata.backfill_weeks as w where w.backfill_id = of_backfill_id and w.status = 'failed'
    ) then
        outcome := 'no_failed_week';
        return;
    end if;
    update metadata.backfill_weeks as w
    set status = 'pending', finished_at = null, last_attempt = w.attempt + found_backfill.max_attempts
    where w.backfill_id = of_backfill_id and w.status = 'failed';
    update metadata.backfills as b
    set status = 'pending', finished_at = null, error_message = null, is_only_failed = only_failed
    where b.backfill_id = of_backfill_id;
    update metadata.job_requests as r set status = of_status, finished_at = null, error_message = null
    where r.request_id = job_request_id;
    if of_status = 'pending' then
        perform pg_notify('oversight_requests', job_request_id::text);
    end if;
    outcome := 'ok';
end
$$;
comment on function metadata.resume_backfill(bigint, boolean, text) is
'The weeks that are left and those that failed, or the failed ones alone, are done; each failed one gets its attempts anew.';

do $$
declare
    login_is_super boolean := (select rolsuper from pg_roles where rolname = current_user);
    item text;
begin
    if not exists (select from pg_roles where rolname = 'oversight_admin') then
        create role oversight_admin nologin noinherit;
    end if;
    if not login_is_super then
        begin
            grant oversight_admin to current_user;
        exception
            when insufficient_privilege then
                if not pg_has_role('oversight_admin', 'member') then
                    raise;
                end if;
        end;
    end if;
    grant oversight_admin to oversight_api;
    grant usage on schema metadata to oversight_admin;

    -- The functions act as dbt's role, which may write these tables; the API's administrator may only call them.
    grant create on schema metadata to oversight_owner;
    foreach item in array array[
        'request_job(text, jsonb, text, text, text, text)',
        'request_pulls(text[], text, text, text)',
        'make_backfill(bigint, text, date, date, integer, integer)',
        'request_backfill(text, date, date, integer, integer, text, text, text, text, boolean)',
        'pause_backfill(bigint)',
        'cancel_backfill(bigint)',
        'resume_backfill(bigint, boolean, text)'
    ] loop
        execute format('revoke all on function metadata.%s from public', item);
        if item !~ '^(request_job|make_backfill)' then
            execute format('grant execute on function metadata.%s to oversight_admin', item);
        end if;
        execute format('alter function metadata.%s owner to oversight_owner', item);
    end loop;
    revoke create on schema metadata from oversight_owner;

    foreach item in array array[
        'metadata.backfills', 'metadata.backfill_weeks', 'metadata.job_requests', 'metadata.refresh_log'
    ] loop
        execute format('grant select on %s to oversight_admin', item);
        execute format('create policy admin_reads on %s for select to oversight_admin using (true)', item);
    end loop;
    grant select on metadata.backfill_progress to oversight_admin;
end
$$;

alter table metadata.audit_log enable row level security;
grant select on metadata.audit_log to oversight_owner;
create policy oversight_owner on metadata.audit_log for select to oversight_owner using (true);
-- Time and number of a row are the database's own.
grant insert (
    call_id, principal_id, principal_name, role, method, path, action, body, idempotency_key, client_address,
    request_id, status, outcome, job_request_id
) on metadata.audit_log to oversight_admin;
create policy admin_adds on metadata.audit_log for insert to oversight_admin with check (true);
-- What came of a call whose answer was lost.
grant select (call_id, outcome, job_request_id) on metadata.audit_log to oversight_admin;
create policy admin_reads on metadata.audit_log for select to oversight_admin using (true);

-- Old rows go by the way of retention, as those of the log of runs do.
grant select, delete on metadata.audit_log to oversight_retention;
create policy oversight_retention on metadata.audit_log to oversight_retention using (true);

do $$
declare
    login_is_super boolean := (select rolsuper from pg_roles where rolname = current_user);
    definition text := pg_get_functiondef('metadata.retire_rows(bigint)'::regprocedure);
    changed text := replace(
        definition,
        $old$                and export.key_column = 'run_id'
            )$old$,
        $new$                and export.key_column = 'run_id'
            )
            or (n.nspname = 'metadata' and c.relname = 'audit_log' and export.key_column = 'audit_id')$new$
    );
begin
    if changed = definition then
        raise exception 'metadata.retire_rows() is not as it was made';
    end if;
    if not login_is_super then
        begin
            grant oversight_retention to current_user;
        exception
            when insufficient_privilege then
                if not pg_has_role('oversight_retention', 'member') then
                    raise;
                end if;
        end;
    end if;
    execute changed;
    if not login_is_super then
        revoke oversight_retention from current_user;
    end if;
end
$$;
