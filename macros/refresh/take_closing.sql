{#
    The day before which all is closed, as text such as 2026-01-05, or none: what the project declares
    (`closed_before`), but never behind what `oversight retire` has removed from raw tables. Asked once per refresh,
    by the first pre-hook; later hooks find the same day in the temporary table closing.
#}
{% macro take_closing() %}
    {% if run_query("select to_regclass('pg_temp.closing') is null").rows[0][0] %}
        {% set declared = var("closed_before", none) %}
        {% do run_query(
            "create temporary table closing on commit drop as select greatest("
            ~ ("'" ~ declared ~ "'" if declared else "null") ~ "::date, (select max(before::date) "
            ~ "from metadata.retired where reason = 'closed_day' and deleted_at is not null)) as closed_before"
        ) %}
    {% endif %}
    {{ return(run_query("select closed_before::text from pg_temp.closing").rows[0][0]) }}
{% endmacro %}
