{#
    A condition: the row of a metadata table speaks of a raw table that control totals come from.

    Arguments:
        alias: table alias, with columns engine and source_table
#}
{% macro is_control_table(alias) -%}
    ({{ alias }}.engine, {{ alias }}.source_table) in (
        {%- for node in feed_models("control_totals") -%}
            {%- set table = feed_source(node) -%}
            ('{{ table.source_name }}', '{{ table.name }}'){{ ", " if not loop.last }}
        {%- endfor -%}
    )
{%- endmacro %}
