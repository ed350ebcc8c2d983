{#
    A row's key as a jsonb object, the form in which the ledgers keep keys of any shape.

    Arguments:
        columns: names of the key's columns, without organization_id
        alias: table alias
#}
{% macro key_object(columns, alias) -%}
    jsonb_build_object(
        {%- for column in columns %}'{{ column }}', {{ alias }}.{{ column }}{{ ", " if not loop.last }}{% endfor -%}
    )
{%- endmacro %}
