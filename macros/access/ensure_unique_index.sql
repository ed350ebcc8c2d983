{#
    The unique index on a mart's grain: it is the key of paging, and two writers can never double a row.

    Arguments:
        grain: column names
#}
{% macro ensure_unique_index(grain) %}
    {% set found = run_query(
        "select 1 from pg_index as i where i.indrelid = '" ~ this ~ "'::regclass and i.indisunique and array("
        ~ "select a.attname::text from unnest(i.indkey) with ordinality as k (attnum, position) "
        ~ "join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum order by k.position"
        ~ ") = array['" ~ grain | join("', '") ~ "']"
    ) %}
    {% if not found.rows %}
        {{ get_create_index_sql(this, {"columns": grain, "unique": true}) }};
    {% endif %}
{% endmacro %}
