{#
    The column that says of which day or week a row of a fact or mart is; none when there is none. Rows of closed
    periods are never written again.

    Arguments:
        node: the fact or mart
#}
{% macro period_column(node) %}
    {% set mart = node.config.meta.mart %}
    {% if node.config.meta.fact %}
        {{ return("day" if "day" in node.config.meta.fact["keys"] else none) }}
    {% elif mart and mart.window and mart.window.column in mart.grain %}
        {{ return(mart.window.column) }}
    {% endif %}
    {{ return(none) }}
{% endmacro %}
