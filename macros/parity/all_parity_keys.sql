{#
    Every key that a mart or the control totals hold, as a sub-select for parity_comparison().

    Arguments:
        node: the mart
#}
{% macro all_parity_keys(node) %}
    {% set period = parity_period(node) %}
    (
        select organization_id, partner_id, {{ period }} from {{ relation_of(node) }}
        union
        select organization_id, partner_id, {{ mart_key(node).expressions[period] }}
        from {{ relation_of(graph.nodes["model." ~ project_name ~ ".fact_control_totals"]) }}
    ) as all_keys
{% endmacro %}
