{#
    A condition: the id is one that this refresh has to write; always true when the dimension is built anew.

    Arguments:
        column: the dimension's id column
#}
{% macro is_touched_id(column) -%}
    {%- if execute and is_incremental() -%}
        (organization_id, {{ column }}) in (
            select touched.organization_id, touched.{{ column }} from pg_temp.touched_ids as touched
        )
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}
