drop function metadata.retire_rows(bigint);
drop trigger is_append_only on metadata.refresh_log_model;
drop trigger is_append_only on metadata.refresh_log;
create or replace function metadata.refuse_change() returns trigger
language plpgsql
as $$
begin
    raise exception '%.% is append-only: % is refused', tg_table_schema, tg_table_name, tg_op
        using errcode = 'insufficient_privilege',
        hint = 'Land a corrected or withdrawn version of the record instead.';
end
$$;
alter table metadata.job_requests
drop constraint job_requests_run_id_fkey,
add constraint job_requests_run_id_fkey foreign key (run_id) references metadata.refresh_log;
drop table metadata.retiring;
drop table metadata.retired;
drop table metadata.backups;
do $$
declare
    item record;
begin
    for item in
        select p.polrelid::regclass as name from pg_policy as p where p.polname = 'oversight_retention'
    loop
        execute format('drop policy oversight_retention on %s', item.name);
        execute format('revoke all on %s from oversight_retention', item.name);
    end loop;
    revoke all on schema metadata, staging from oversight_retention;
    begin
        drop role oversight_retention;
    exception
        when dependent_objects_still_exist then
            raise notice 'role oversight_retention is used by another database and stays';
    end;
end
$$;
