-- Whoever keeps answers is told when one changes: which mart on oversight_data, nothing for all of them.
-- depends: 0010.pg-cron

create function metadata.tell_changed_marts() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'select pg_notify(''oversight_data'', mart) from (select distinct %I as mart from changed) as m', tg_argv[0]
    );
    return null;
end
$$;
comment on function metadata.tell_changed_marts() is
'Names the marts of the changed rows, by the column given, on oversight_data when the change is committed.';

create function metadata.tell_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('oversight_data', coalesce(tg_argv[0], ''));
    return null;
end
$$;
comment on function metadata.tell_change() is
'Tells on oversight_data that what the argument names has changed; without one, all has.';

-- What the freshness block of an answer is made of. Marts' own rows change only with their version.
do $$
declare
    item record;
begin
    for item in
        select t.name, t.mart, e.event, e.rows_name
        from (
            values
            ('data_versions', 'model'), ('waiting_batches', 'model'), ('held_keys', 'model'),
            ('parity_verdicts', 'mart')
        ) as t (name, mart)
        cross join (
            values ('insert', 'new table'), ('update', 'new table'), ('delete', 'old table')
        ) as e (event, rows_name)
    loop
        execute format(
            'create trigger tells_%1$s after %1$s on metadata.%2$I referencing %3$s as changed'
            ' for each statement execute function metadata.tell_changed_marts(%4$L)',
            item.event, item.name, item.rows_name, item.mart
        );
    end loop;
end
$$;

-- Not at each heartbeat of a run.
create trigger tells_change after insert or delete or update of status, rows_affected, error_message, models
on metadata.refresh_log for each statement execute function metadata.tell_change('refresh_log');
create trigger tells_change after insert or delete or update
on metadata.catalogue for each statement execute function metadata.tell_change();
