{#
    The reverse of key_object: a jsonb key as typed columns, types as the model's contract says.

    Arguments:
        columns: names of the key's columns
        node: the model whose contract types them
        key: expression of the jsonb object
#}
{% macro key_columns(columns, node, key) -%}
    {%- for column in columns -%}
        ({{ key }} ->> '{{ column }}')::{{ node.columns[column].data_type }} as {{ column }}{{ ", " if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
