-- Roles and the four schemas. Roles belong to the cluster, so another database may hold them already.
-- depends:

do $$
declare
    role_name text;
begin
    foreach role_name in array array[
        'oversight_owner', 'oversight_raw', 'oversight_loader', 'oversight_reader', 'oversight_analyst'
    ] loop
        if not exists (select from pg_roles where rolname = role_name) then
            execute format('create role %I nologin noinherit', role_name);
        end if;
    end loop;
    if not exists (select from pg_roles where rolname = 'oversight_api') then
        create role oversight_api login noinherit;
    end if;
    -- The loader and dbt touch raw tables through grants; whoever migrates must be able to act as each of them.
    foreach role_name in array array[
        'oversight_owner', 'oversight_raw', 'oversight_loader', 'oversight_reader', 'oversight_api'
    ] loop
        if not (select rolsuper from pg_roles where rolname = current_user) then
            begin
                execute format('grant %I to current_user', role_name);
            exception
                -- An administrator made the roles and granted them; then there is nothing to grant.
                when insufficient_privilege then
                    if not pg_has_role(role_name, 'member') then
                        raise;
                    end if;
            end;
        end if;
    end loop;
end
$$;

grant oversight_reader to oversight_api;

do $$
begin
    execute format(
        'grant create, temporary, connect on database %I to oversight_owner, oversight_raw, oversight_loader',
        current_database()
    );
    execute format('grant connect on database %I to oversight_api, oversight_analyst', current_database());
end
$$;

create schema staging;
create schema curated;
create schema reporting;
create schema if not exists metadata;

grant usage, create on schema staging to oversight_owner, oversight_raw;
grant usage on schema staging to oversight_loader;
grant usage, create on schema curated, reporting to oversight_owner;
grant usage on schema metadata to oversight_owner, oversight_raw, oversight_loader;
grant usage on schema reporting, metadata to oversight_reader, oversight_api, oversight_analyst;
