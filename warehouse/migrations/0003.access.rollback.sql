drop view if exists metadata.mart_freshness;
do $$
declare
    item record;
begin
    for item in
        select schemaname, tablename, policyname from pg_policies where schemaname = 'metadata'
    loop
        execute format('drop policy %I on %I.%I', item.policyname, item.schemaname, item.tablename);
        execute format('alter table %I.%I disable row level security', item.schemaname, item.tablename);
    end loop;
end
$$;
revoke all on all tables in schema metadata
from oversight_owner, oversight_loader, oversight_api, oversight_reader, oversight_analyst;
revoke all on all sequences in schema metadata from oversight_owner, oversight_loader;
revoke update (last_used_at) on metadata.principals from oversight_api;
drop table if exists staging.rejected_rows;
drop function if exists metadata.refuse_change() cascade;
