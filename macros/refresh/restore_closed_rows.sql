{#
    After a table was written anew as a whole: closed periods hold what they held, not what was computed now. A
    record that stands in a closed period is nowhere else. Columns that are new stay NULL there.
#}
{% macro restore_closed_rows() %}
    {% set period = period_column(model) %}
    {% if period and run_query("select to_regclass('pg_temp.closed_rows') is not null").rows[0][0] %}
        {% set columns = run_query(
            "select quote_ident(o.attname) from pg_attribute as o join pg_attribute as n on n.attname = o.attname "
            ~ "where o.attrelid = to_regclass('pg_temp.closed_rows') and n.attrelid = '" ~ this ~ "'::regclass "
            ~ "and o.attnum > 0 and n.attnum > 0 and not o.attisdropped and not n.attisdropped"
        ).columns[0].values() | join(", ") %}
        delete from {{ this }}
        where
            {{ period }} < '{{ take_closing() }}'
            {% if model.config.meta.fact %}
                or record_key = any(array(select record_key from pg_temp.closed_rows))
            {% endif %};
        insert into {{ this }} ({{ columns }}) select {{ columns }} from pg_temp.closed_rows;
    {% endif %}
{% endmacro %}
