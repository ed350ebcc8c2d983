{#
    Fails when a staging model declares a feed but the union of that feed does not read it: dbt's partial parsing
    does not notice a new registration, and an engine that is silently left out is the worst kind of wrong.
#}
{% macro check_feeds() %}
    {% if execute %}
        {% for node in graph.nodes.values() if node.resource_type == "model" and node.config.meta.feed %}
            {% set feed = node.name.split("__")[-1] %}
            {% set union_id = "model." ~ project_name ~ ".int_" ~ feed ~ "__unioned" %}
            {% if union_id in graph.nodes and node.unique_id not in graph.nodes[union_id].depends_on.nodes %}
                {{ exceptions.raise_compiler_error(
                    node.name ~ " is not part of int_" ~ feed ~ "__unioned. Its first line must be "
                    ~ "a macro " ~ feed ~ "_feed__<engine>() that returns a ref to it; "
                    ~ "if it is, run dbt once with --no-partial-parse"
                ) }}
            {% endif %}
        {% endfor %}
    {% endif %}
{% endmacro %}
