{#
    Passes when no key of the mart differs from the engines' control totals; compares everything, not only what the last
    refresh touched. Names the failing keys in dbt's output and returns them.
#}
{% test parity(model) %}
    {% if execute %}
        {% set relation = model %}
        {% set found = [] %}
        {% for node in graph.nodes.values() if node.resource_type == "model" and relation_of(node) | string == relation | string %}
            {% do found.append(node) %}
        {% endfor %}
        {% set mart = found[0] %}
        {% set query %}
            select organization_id, partner_id, period, metric, mart_value, control_value
            from ({{ parity_comparison(mart, all_parity_keys(mart)) }}) as compared
            where verdict = 'failed'
            union all
            select organization_id, partner_id, period, metric, mart_value, control_value
            from metadata.parity_verdicts
            where mart = '{{ model_key(relation) }}' and period is null and verdict = 'failed'
        {% endset %}
        {% set failed = run_query("select * from (" ~ query ~ ") as failed order by 1, 2, 3 nulls last, 4 limit 20") %}
        {% for row in failed.rows %}
            {% do log(
                "parity: " ~ mart.name ~ " of " ~ row[0] ~ ", " ~ row[1] ~ ", " ~ (row[2] or "in total") ~ ", " ~ row[3]
                ~ ": the mart has " ~ (row[4] if row[4] is not none else "nothing")
                ~ ", the engine says " ~ (row[5] if row[5] is not none else "nothing"),
                info=true
            ) %}
        {% endfor %}
        {{ query }}
    {% else %}
        {% do ref("fact_control_totals") %}{% do ref("dim_date") %}
        select 1 as parsed from {{ model }}
    {% endif %}
{% endtest %}
