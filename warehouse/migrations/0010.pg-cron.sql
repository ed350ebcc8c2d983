-- The database as the clock: what pg_cron calls at the slots of a job, and what it deletes by itself.
-- depends: 0009.freshness-and-alerts

create function metadata.pg_cron_key(of_job_name text, slot timestamptz) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select format('pg_cron %s %s', of_job_name, to_char(slot at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"'))
$$;
comment on function metadata.pg_cron_key(text, timestamptz) is
'The idempotency key of what pg_cron asks for: a slot is asked for once.';

create function metadata.request_due(of_job_name text) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    job metadata.jobs;
    due_slot timestamptz;
    last_slot timestamptz;
    made bigint;
begin
    select * into job from metadata.jobs where job_name = of_job_name;
    if not found or job.clock <> 'pg_cron' then
        return null;
    end if;
    select max(slot) into due_slot
    from metadata.cron_slots(job.cadence, now() - interval '1 hour', now()) as slot;
    if due_slot is null then
        raise exception '% is declared as "%" in UTC, which has no slot in the last hour', job.job_name, job.cadence
            using hint = 'Run `oversight db pg-cron install` again, and look at cron.timezone.';
    end if;
    if due_slot <= job.since then
        return null;
    end if;
    insert into metadata.job_requests (kind, arguments, scheduled_for, idempotency_key, requested_by)
    values (
        job.kind,
        case job.kind
            when 'refresh' then jsonb_build_object('marts', jsonb_build_array(job.job_name))
            when 'pull' then jsonb_build_object('engine', substr(job.job_name, length('pull ') + 1))
            else '{}'
        end,
        due_slot,
        metadata.pg_cron_key(job.job_name, due_slot),
        'pg_cron'
    )
    on conflict (idempotency_key) do nothing
    returning request_id into made;
    if made is null then
        return null;
    end if;
    -- One run makes up for all slots that nobody took or asked for; each of those has its row all the same.
    select max(scheduled_for) into last_slot
    from metadata.refresh_log
    where job_name = job.job_name and scheduled_for <= now();
    update metadata.job_requests as r
    set status = 'cancelled', finished_at = clock_timestamp(), error_message = 'no runner took it before the next slot'
    where
        r.status = 'pending' and r.requested_by = 'pg_cron' and r.scheduled_for < due_slot
        and r.idempotency_key = metadata.pg_cron_key(job.job_name, r.scheduled_for);
    insert into metadata.refresh_log (job_name, scheduled_for, finished_at, status, error_message, rows_affected)
    select job.job_name, slot, clock_timestamp(), 'missed', 'no runner ran, or pg_cron did not', 0
    from metadata.cron_slots(
        job.cadence, greatest(job.since, last_slot, now() - interval '35 days'), due_slot - interval '1 second'
    ) as slot
    where not exists (
        select from metadata.job_requests as r
        where r.idempotency_key = metadata.pg_cron_key(job.job_name, slot) and r.status <> 'cancelled'
    )
    on conflict (job_name, scheduled_for) do nothing;
    return made;
end
$$;
comment on function metadata.request_due(text) is
'Asks the runner for a job''s newest slot, once however often it is called; NULL when there is nothing to ask for.';

create function metadata.forget_requests() returns bigint
language sql set search_path = pg_catalog, pg_temp
as $$
    with forgotten as (
        delete from metadata.job_requests
        where idempotency_key like 'pg_cron %' and finished_at < now() - interval '30 days'
        returning request_id
    )
    select count(*) from forgotten
$$;
comment on function metadata.forget_requests() is
'Deletes what pg_cron asked for and ended over 30 days ago: each has its row in refresh_log. Gives back how many.';
