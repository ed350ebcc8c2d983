{#
    The staging models that register one feed (nodes of the graph, by name); empty while dbt parses.

    Arguments:
        feed: partners, campaigns, spend, events or control_totals
#}
{% macro feed_models(feed) %}
    {% set found = [] %}
    {% if execute %}
        {% for node in graph.nodes.values() | sort(attribute="name")
            if node.resource_type == "model" and node.config.meta.feed and node.name.endswith("__" ~ feed) %}
            {% do found.append(node) %}
        {% endfor %}
    {% endif %}
    {{ return(found) }}
{% endmacro %}
