{#
    All engines' views of one feed, one under the other. Each engine registers its view with a one-line macro
    `<feed>_feed__<engine>()`; dbt needs the references when it parses, and nobody has to edit a list.

    Arguments:
        feed: partners, campaigns, spend, events or control_totals
        columns: the feed's columns, in order
#}
{% macro union_feeds(feed, columns) %}
    {% set registered = [] %}
    {% for name in context.keys() | sort if name.startswith(feed ~ "_feed__") %}
        {% do registered.append(name) %}
    {% endfor %}
    {% for name in registered %}
        select
            '{{ name.split("_feed__")[1] }}'::text as engine,
            {{ columns | join(",\n            ") }}
        from {{ context[name]() }}
        {% if not loop.last %}
            union all
        {% endif %}
    {% endfor %}
{% endmacro %}
