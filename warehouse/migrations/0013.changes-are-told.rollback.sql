do $$
declare
    item record;
begin
    for item in
        select c.oid::regclass as table_name, t.tgname
        from pg_trigger as t
        join pg_class as c on c.oid = t.tgrelid
        join pg_proc as p on p.oid = t.tgfoid
        join pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'metadata' and p.proname in ('tell_changed_marts', 'tell_change')
    loop
        execute format('drop trigger %I on %s', item.tgname, item.table_name);
    end loop;
end
$$;
drop function metadata.tell_changed_marts();
drop function metadata.tell_change();
