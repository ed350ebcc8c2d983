{#
    Counts the rows that this refresh wrote and removed, for the run that the runner has opened in refresh_log
    (OVERSIGHT_RUN_ID); dbt's own figure counts inserts only.

    Arguments:
        written: SQL of a query that counts the rows written
#}
{% macro record_rows(written) %}
    {% if env_var("OVERSIGHT_RUN_ID", "") %}
        insert into metadata.refresh_log_model (run_id, model, rows_inserted, rows_deleted)
        select
            {{ env_var("OVERSIGHT_RUN_ID") | int }},
            '{{ model_key(this) }}',
            ({{ written }}),
            {{ "(select rows_deleted from pg_temp.row_counts)" if is_incremental() else "0" }}
        on conflict (run_id, model) do update
        set rows_inserted = excluded.rows_inserted, rows_deleted = excluded.rows_deleted;
    {% endif %}
{% endmacro %}
