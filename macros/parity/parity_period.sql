{#
    The column of a mart's grain that says when: what is neither the organization nor the partner.

    Arguments:
        node: the mart
#}
{% macro parity_period(node) %}
    {{ return(node.config.meta.mart.grain | reject("in", ["organization_id", "partner_id"]) | first) }}
{% endmacro %}
