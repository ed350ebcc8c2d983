do $$
declare
    login_is_super boolean := (select rolsuper from pg_roles where rolname = current_user);
    definition text := pg_get_functiondef('metadata.retire_rows(bigint)'::regprocedure);
begin
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
    execute replace(
        definition,
        $new$
            or (n.nspname = 'metadata' and c.relname = 'audit_log' and export.key_column = 'audit_id')$new$,
        ''
    );
    if not login_is_super then
        revoke oversight_retention from current_user;
    end if;
end
$$;
drop view metadata.alert_conditions;
alter view metadata.alert_findings rename to alert_conditions;
comment on view metadata.alert_conditions is 'What holds now and should be told. One row per key of an alert.';
drop function metadata.resume_backfill(bigint, boolean, text);
drop function metadata.cancel_backfill(bigint);
drop function metadata.pause_backfill(bigint);
drop function metadata.request_backfill(text, date, date, integer, integer, text, text, text, text, boolean);
drop function metadata.make_backfill(bigint, text, date, date, integer, integer);
drop function metadata.request_pulls(text[], text, text, text);
drop function metadata.request_job(text, jsonb, text, text, text, text);
alter table metadata.job_requests drop column lead_request_id, drop column fingerprint;
drop table metadata.audit_log;
create or replace function metadata.refuse_change() returns trigger
language plpgsql
as $$
begin
    if tg_op = 'DELETE' and current_user = 'oversight_retention' then
        return null;
    end if;
    raise exception '%.% is append-only: % is refused', tg_table_schema, tg_table_name, tg_op
        using errcode = 'insufficient_privilege',
        hint = 'Land a corrected or withdrawn version of a record instead; old rows go by `oversight retire`.';
end
$$;
do $$
declare
    item text;
begin
    foreach item in array array[
        'metadata.backfills', 'metadata.backfill_weeks', 'metadata.job_requests', 'metadata.refresh_log'
    ] loop
        execute format('drop policy admin_reads on %s', item);
        execute format('revoke all on %s from oversight_admin', item);
    end loop;
    revoke all on metadata.backfill_progress from oversight_admin;
    revoke all on schema metadata from oversight_admin;
    begin
        drop role oversight_admin;
    exception
        when dependent_objects_still_exist then
            raise notice 'role oversight_admin is used by another database and stays';
    end;
end
$$;
