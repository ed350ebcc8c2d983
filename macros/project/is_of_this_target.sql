{#
    A condition: a name in the ledgers (see model_key) is that of a model of this target, not of somebody's dev build.

    Arguments:
        column: the column that holds the name
#}
{% macro is_of_this_target(column) -%}
    {%- if target.name in ["embedded", "prod"] -%}
        strpos({{ column }}, '.') = 0
    {%- else -%}
        starts_with({{ column }}, '{{ target.schema }}_')
    {%- endif -%}
{%- endmacro %}
