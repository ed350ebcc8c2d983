{#
    Counts the rows that this refresh wrote and removed, for the run that the runner has opened in refresh_log
    (OVERSIGHT_RUN_ID); dbt's own figure counts inserts only. A row that was removed and written again is an update.

    Arguments:
        written: what stands after `from` to read the rows written
        identity: the columns that tell one row from another, as in pg_temp.removed_rows
#}
{% macro record_rows(written, identity) %}
    {% if env_var("OVERSIGHT_RUN_ID", "") %}
        {% set columns = identity | join(", ") %}
        insert into metadata.refresh_log_model as m
            (run_id, model, rows_inserted, rows_updated, rows_deleted, seconds)
        select
            {{ env_var("OVERSIGHT_RUN_ID") | int }},
            '{{ model_key(this) }}',
            {% if is_incremental() %}
                coalesce(sum(greatest(w.written - coalesce(r.removed, 0), 0)), 0),
                coalesce(sum(least(w.written, r.removed)) filter (where w.written > 0 and r.removed > 0), 0),
                coalesce(sum(greatest(r.removed - coalesce(w.written, 0), 0)), 0),
            {% else %}
                coalesce(sum(w.written), 0), 0, 0,
            {% endif %}
            extract(epoch from clock_timestamp() - now())
        from (select {{ columns }}, count(*) as written from {{ written }} group by {{ columns }}) as w
        {% if is_incremental() %}
            full join (
                select {{ columns }}, count(*) as removed from pg_temp.removed_rows group by {{ columns }}
            ) as r using ({{ columns }})
        {% endif %}
        {# a run that was tried again adds what it did the second time #}
        on conflict (run_id, model) do update
        set
            rows_inserted = m.rows_inserted + excluded.rows_inserted,
            rows_updated = m.rows_updated + excluded.rows_updated,
            rows_deleted = m.rows_deleted + excluded.rows_deleted,
            seconds = m.seconds + excluded.seconds,
            finished_at = excluded.finished_at;
    {% endif %}
{% endmacro %}
