-- What dbt, landing and people made in the schemas goes with them. A role that another database uses stays.

drop schema if exists reporting cascade;
drop schema if exists curated cascade;
drop schema if exists staging cascade;

do $$
declare
    role_name text;
begin
    foreach role_name in array array[
        'oversight_analyst', 'oversight_api', 'oversight_reader', 'oversight_loader', 'oversight_raw', 'oversight_owner'
    ] loop
        execute format('revoke all on database %I from %I', current_database(), role_name);
        execute format('revoke all on schema metadata from %I', role_name);
        begin
            execute format('drop role %I', role_name);
        exception
            when dependent_objects_still_exist then
                raise notice 'role % is used by another database and stays', role_name;
        end;
    end loop;
end
$$;
