-- What retention and backups leave behind, and the one way by which append-only rows may go.
-- depends: 0005.runs

create table metadata.backups (
    backup_id bigint generated always as identity primary key,
    file text not null,
    taken_at timestamptz not null default clock_timestamp(),
    proved_at timestamptz,
    bytes bigint,
    sha256 text,
    tables integer,
    rows bigint,
    error text,
    check (proved_at is null or (error is null and sha256 is not null))
);
comment on table metadata.backups is
'Backups, each proved by restoring and comparing it; an error says why one is not. One row per backup that was begun.';

create table metadata.retired (
    retired_id bigint generated always as identity primary key,
    table_name text not null,
    key_column text not null,
    reason text not null check (reason in ('age', 'superseded', 'closed_day')),
    before text not null,
    rows bigint not null check (rows > 0),
    file text not null check (file <> ''),
    bytes bigint not null,
    sha256 text not null,
    exported_at timestamptz not null default clock_timestamp(),
    deleted_at timestamptz
);
comment on table metadata.retired is
'Exports of rows that retention removes: written and read back first, then deleted. One row per export.';
comment on column metadata.retired.deleted_at is 'When the rows were deleted; NULL when they still stand in the table.';

create table metadata.retiring (
    retired_id bigint not null references metadata.retired on delete cascade,
    key_value bigint not null,
    primary key (retired_id, key_value)
);
comment on table metadata.retiring is
'Which rows an export holds, until they are deleted. One row per export and key.';

alter table metadata.job_requests
drop constraint job_requests_run_id_fkey,
add constraint job_requests_run_id_fkey
foreign key (run_id) references metadata.refresh_log on delete set null;

do $$
declare
    table_name text;
begin
    foreach table_name in array array['metadata.backups', 'metadata.retired', 'metadata.retiring'] loop
        execute format('alter table %s enable row level security', table_name);
        execute format(
            'create policy oversight_owner on %s to oversight_owner using (true) with check (true)', table_name
        );
        execute format('grant select, insert, update, delete on %s to oversight_owner', table_name);
    end loop;
end
$$;
-- What goes is chosen by the login that migrates, which owns these two; dbt's role only reads what went.
revoke insert, update, delete on metadata.retired from oversight_owner;
revoke all on metadata.retiring from oversight_owner;

-- Landing refuses what is older than anything that has gone for good.
grant select on metadata.retired to oversight_loader;
create policy loader_reads on metadata.retired for select to oversight_loader using (true);

-- The guards tell the way of retention from all others by the role that runs the deletion: a setting could be set by
-- anyone, but nobody is this role except inside metadata.retire_rows(), which takes raw tables and the log of runs
-- alone: on any other table its owner's triggers would run as this role.
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
create trigger is_append_only before delete or truncate on metadata.refresh_log
for each statement execute function metadata.refuse_change();
create trigger is_append_only before delete or truncate on metadata.refresh_log_model
for each statement execute function metadata.refuse_change();

create function metadata.retire_rows(of_retired_id bigint) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    export record;
    target text;
    newest bigint := 0;
    removed bigint;
begin
    select * into strict export from metadata.retired as r where r.retired_id = of_retired_id for update;
    if export.deleted_at is not null then
        raise exception 'export % was deleted already', of_retired_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    select format('%I.%I', n.nspname, c.relname) into target
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where
        c.oid = to_regclass(export.table_name) and c.relkind = 'r'
        and (
            (n.nspname = 'staging' and pg_get_userbyid(c.relowner) = 'oversight_raw' and export.key_column = 'row_id')
            or (
                n.nspname = 'metadata' and c.relname in ('refresh_log', 'refresh_log_model')
                and export.key_column = 'run_id'
            )
        );
    if target is null then
        raise exception '% with the key % is neither a raw table nor the log of runs: nothing is deleted',
            export.table_name, export.key_column
            using errcode = 'insufficient_privilege';
    end if;
    if export.reason = 'superseded' then
        execute format(
            'select count(*) from %1$s as t join metadata.retiring as k on k.key_value = t.row_id '
            'where k.retired_id = $1 and not exists (select from %1$s as n where n.record_key = t.record_key and '
            '(n.record_version, n.extracted_at, n.batch_id, n.row_id) '
            '> (t.record_version, t.extracted_at, t.batch_id, t.row_id))',
            target
        ) using of_retired_id into newest;
    end if;
    if newest > 0 then
        raise exception '% rows of % are the newest of their records and stay', newest, target
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    execute format(
        'delete from %s where %I in (select k.key_value from metadata.retiring as k where k.retired_id = $1)',
        target, export.key_column
    ) using of_retired_id;
    get diagnostics removed = row_count;
    if removed <> export.rows then
        raise exception '% rows of % were exported, but % would be deleted: nothing is',
            export.rows, target, removed
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    update metadata.retired as r set deleted_at = clock_timestamp() where r.retired_id = of_retired_id;
    delete from metadata.retiring as k where k.retired_id = of_retired_id;
    return removed;
end
$$;
comment on function metadata.retire_rows(bigint) is
'The only way by which append-only rows go: all rows of one verified export, or none.';
revoke all on function metadata.retire_rows(bigint) from public;
-- The login that migrates is a member of the raw tables' owner; dbt's role is not.
grant execute on function metadata.retire_rows(bigint) to oversight_raw;

do $$
declare
    item record;
begin
    if not exists (select from pg_roles where rolname = 'oversight_retention') then
        create role oversight_retention nologin noinherit;
    end if;
    grant usage on schema metadata, staging to oversight_retention;
    for item in
        select c.oid::regclass as name, c.relname in ('retired') as is_updated
        from pg_class as c
        where
            (
                c.relnamespace = 'metadata'::regnamespace
                and c.relname in ('retired', 'retiring', 'refresh_log', 'refresh_log_model')
            )
            or (
                c.relnamespace = 'staging'::regnamespace and c.relkind = 'r'
                and pg_get_userbyid(c.relowner) = 'oversight_raw'
            )
    loop
        execute format('grant select, delete on %s to oversight_retention', item.name);
        if item.is_updated then
            execute format('grant update on %s to oversight_retention', item.name);
        end if;
        execute format(
            'create policy oversight_retention on %s to oversight_retention using (true)', item.name
        );
    end loop;
end
$$;

-- A login that is no superuser has to be a member, for a moment, of the role that it gives the function to.
do $$
declare
    is_super boolean := (select rolsuper from pg_roles where rolname = current_user);
begin
    if not is_super then
        begin
            grant oversight_retention to current_user;
        exception
            when insufficient_privilege then
                if not pg_has_role('oversight_retention', 'member') then
                    raise;
                end if;
        end;
    end if;
    grant create on schema metadata to oversight_retention;
    alter function metadata.retire_rows(bigint) owner to oversight_retention;
    revoke create on schema metadata from oversight_retention;
    if not is_super then
        revoke oversight_retention from current_user;
    end if;
end
$$;
