{#
    Before a table is written anew as a whole: its rows of closed periods, to be put back by restore_closed_rows().
#}
{% macro keep_closed_rows() %}
    {% set period = period_column(model) %}
    {% set closed = take_closing() %}
    {% if period and closed and load_relation(this) is not none %}
        create temporary table closed_rows on commit drop as
        select * from {{ this }} where {{ period }} < '{{ closed }}';
    {% endif %}
{% endmacro %}
