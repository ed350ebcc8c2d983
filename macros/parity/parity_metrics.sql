{#
    The metrics of a mart that are compared with control totals: a list of dicts `name`, `control` (the column of
    fact_control_totals) and `kind` (money or count). Empty when the mart declares no parity.

    Arguments:
        node: the mart
#}
{% macro parity_metrics(node) %}
    {% set found = [] %}
    {% if node.config.meta.mart and node.config.meta.mart.parity %}
        {% for column in node.columns.values() if column.config.meta.control %}
            {% do found.append({
                "name": column.name, "control": column.config.meta.control, "kind": column.config.meta.kind
            }) %}
        {% endfor %}
    {% endif %}
    {{ return(found) }}
{% endmacro %}
