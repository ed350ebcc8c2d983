{#
    The ledger names of the models that take a fact's or dimension's changes: marts and dimensions above it.

    Arguments:
        parent: a node of the graph
#}
{% macro takers(parent) %}
    {% set found = [] %}
    {% for node in graph.nodes.values() if node.resource_type == "model"
        and (node.config.meta.mart or node.config.meta.dimension) and node.config.materialized == "incremental" %}
        {% for model_above in lineage(node)["models"] if model_above.unique_id == parent.unique_id %}
            {% do found.append(model_key(relation_of(node))) %}
        {% endfor %}
    {% endfor %}
    {{ return(found) }}
{% endmacro %}
