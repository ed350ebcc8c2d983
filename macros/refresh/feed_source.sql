{#
    The raw table whose record keys a feed's staging model emits (a source node of the graph).

    Arguments:
        node: a staging model with meta.feed
#}
{% macro feed_source(node) %}
    {% set found = [] %}
    {% for unique_id in node.depends_on.nodes if unique_id.startswith("source.") %}
        {% set table = graph.sources[unique_id] %}
        {% if table.name == node.config.meta.feed.records_from %}
            {% do found.append(table) %}
        {% endif %}
    {% endfor %}
    {{ return(found[0]) }}
{% endmacro %}
