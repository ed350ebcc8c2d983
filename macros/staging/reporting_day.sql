{#
    The calendar day of an instant in the reporting zone (date), whatever the session's zone is.

    Arguments:
        instant: an expression of type timestamptz
#}
{% macro reporting_day(instant) -%}
    (({{ instant }}) at time zone '{{ var("reporting_timezone") }}')::date
{%- endmacro %}
