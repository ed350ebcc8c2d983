{#
    A condition: the record is one that this refresh has to write; always true when the fact is built anew.
    The form matters: `= any(array(..))` on the unmodified column reaches the raw tables' index through all views.

    Arguments:
        column: the record key's column
#}
{% macro is_touched_record(column) -%}
    {%- if execute and is_incremental() -%}
        {{ column }} = any(array(select touched.record_key from pg_temp.touched_records as touched))
    {%- else -%}
        true
    {%- endif -%}
{%- endmacro %}
