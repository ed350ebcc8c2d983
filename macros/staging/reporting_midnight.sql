{#
    The instant at which a calendar day begins in the reporting zone (timestamptz).

    Arguments:
        day: an expression of type date
#}
{% macro reporting_midnight(day) -%}
    (({{ day }})::timestamp at time zone '{{ var("reporting_timezone") }}')
{%- endmacro %}
