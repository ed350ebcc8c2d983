{#
    The relation of a node of the graph.

    Arguments:
        node: a model or source of the graph
#}
{% macro relation_of(node) %}
    {{ return(api.Relation.create(
        database=node.database, schema=node.schema, identifier=node.alias or node.identifier
    )) }}
{% endmacro %}
