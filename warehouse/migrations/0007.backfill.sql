-- Backfills: a ledger of ISO weeks, and batches that tell nothing of how fresh an engine is.
-- depends: 0005.runs

alter table metadata.batch_tables add column is_backfill boolean not null default false;
comment on column metadata.batch_tables.is_backfill is
'Whether it was landed for old weeks on purpose: it counts neither for data_through nor for an engine''s silence.';

alter table metadata.batches
add column window_from date,
add column window_to date,
add check ((window_from is null) = (window_to is null) and window_from <= window_to);
comment on column metadata.batches.window_from is
'The first of the days that a backfill asked the engine for; NULL in other loads.';
comment on column metadata.batches.window_to is 'The last of those days, included; NULL in other loads.';

create table metadata.backfills (
    backfill_id bigint generated always as identity primary key,
    engine text not null,
    first_week date not null check (extract(isodow from first_week) = 1),
    last_week date not null check (extract(isodow from last_week) = 1),
    status text not null default 'pending'
    check (status in ('pending', 'running', 'paused', 'done', 'failed', 'cancelled')),
    is_only_failed boolean not null default false,
    max_weeks integer not null check (max_weeks > 0),
    max_attempts integer not null check (max_attempts > 0),
    requested_by text not null default session_user,
    requested_at timestamptz not null default clock_timestamp(),
    request_id bigint not null unique references metadata.job_requests,
    run_id bigint references metadata.refresh_log,
    started_at timestamptz,
    finished_at timestamptz,
    error_message text,
    check (first_week <= last_week),
    check ((finished_at is not null) = (status in ('done', 'failed', 'cancelled')))
);
comment on table metadata.backfills is
'Weeks of an engine that are asked for again; done when the marts hold each. One row per backfill.';
comment on column metadata.backfills.is_only_failed is
'Resumed for the weeks that had failed: those never tried wait for another resume.';
comment on column metadata.backfills.run_id is 'Its newest run; NULL before the first.';
create index backfills_open on metadata.backfills (backfill_id) where status in ('pending', 'running');

create table metadata.backfill_weeks (
    backfill_id bigint not null references metadata.backfills,
    week date not null check (extract(isodow from week) = 1),
    status text not null default 'pending'
    check (status in ('pending', 'running', 'done', 'failed', 'skipped')),
    attempt integer not null default 0,
    last_attempt integer not null,
    batches_before bigint,
    batch_id bigint references metadata.batches,
    rows_landed bigint,
    rows_rejected bigint,
    landed_checksum text,
    mart_checksums jsonb,
    error_message text,
    started_at timestamptz,
    finished_at timestamptz,
    primary key (backfill_id, week),
    check ((finished_at is not null) = (status in ('done', 'failed', 'skipped')))
);
comment on table metadata.backfill_weeks is
'How far a backfill is; skipped when the engine gave no rows, done with 0 rows when none was new. One row per backfill and ISO week, named by its Monday.';
comment on column metadata.backfill_weeks.last_attempt is 'The attempt after which it has failed.';
comment on column metadata.backfill_weeks.batches_before is
'The newest batch when it was first tried: one of this engine and window beyond it may be this week''s.';
comment on column metadata.backfill_weeks.landed_checksum is
'MD5 over table, record key and content of all rows that its batch holds; NULL until landed.';
comment on column metadata.backfill_weeks.mart_checksums is
'MD5 of all rows of the week by mart, as they were when the week was done; NULL until then.';

create view metadata.backfill_progress with (security_invoker = true) as
select
    b.backfill_id,
    b.engine,
    to_char(b.first_week, 'IYYY-"W"IW') as first_week,
    to_char(b.last_week, 'IYYY-"W"IW') as last_week,
    b.status,
    w.weeks,
    w.weeks_done,
    w.weeks_skipped,
    w.weeks_failed,
    w.weeks - w.weeks_done - w.weeks_skipped - w.weeks_failed as weeks_left,
    round(100.0 * (w.weeks_done + w.weeks_skipped) / w.weeks, 1) as percent,
    w.running_week,
    w.failed_weeks,
    w.rows_landed,
    w.rows_rejected,
    b.requested_by,
    b.requested_at,
    b.started_at,
    b.finished_at,
    b.error_message
from metadata.backfills as b
cross join lateral (
    select
        count(*) as weeks,
        count(*) filter (where k.status = 'done') as weeks_done,
        count(*) filter (where k.status = 'skipped') as weeks_skipped,
        count(*) filter (where k.status = 'failed') as weeks_failed,
        max(to_char(k.week, 'IYYY-"W"IW')) filter (where k.status = 'running') as running_week,
        coalesce(
            array_agg(to_char(k.week, 'IYYY-"W"IW') order by k.week) filter (where k.status = 'failed'),
            '{}'
        ) as failed_weeks,
        coalesce(sum(k.rows_landed), 0)::bigint as rows_landed,
        coalesce(sum(k.rows_rejected), 0)::bigint as rows_rejected
    from metadata.backfill_weeks as k
    where k.backfill_id = b.backfill_id
) as w;
comment on view metadata.backfill_progress is
'How far each backfill is, in weeks and percent; skipped weeks count as done. One row per backfill.';

do $$
declare
    table_name text;
begin
    foreach table_name in array array['metadata.backfills', 'metadata.backfill_weeks'] loop
        execute format('alter table %s enable row level security', table_name);
        execute format(
            'create policy oversight_owner on %s to oversight_owner using (true) with check (true)', table_name
        );
        execute format('grant select, insert, update, delete on %s to oversight_owner', table_name);
    end loop;
    grant select on metadata.backfill_progress to oversight_owner;
end
$$;
