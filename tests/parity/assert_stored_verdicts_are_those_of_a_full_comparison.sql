-- Refreshes compare the keys that they touch; together these verdicts must be those of comparing
-- everything at once. Organizations with withheld keys are left out: their verdicts speak of rows
-- that are not published. Returns the verdicts that differ.

-- depends_on: {{ ref("daily_metrics") }}
-- depends_on: {{ ref("weekly_partner_performance") }}
-- depends_on: {{ ref("fact_control_totals") }}
-- depends_on: {{ ref("dim_date") }}
{% set comparisons = [] %}
{% set marts = [] %}
{% if execute %}
    {% for mart in graph.nodes.values() if mart.resource_type == "model" and parity_metrics(mart) %}
        {% do marts.append(model_key(relation_of(mart))) %}
        {% do comparisons.append("(" ~ parity_comparison(mart, all_parity_keys(mart)) ~ ")") %}
    {% endfor %}
{% endif %}

with compared as (
    {{ comparisons | join(" union all ") or "select * from metadata.parity_verdicts" }}
),

stored as (
    select * from metadata.parity_verdicts
    where period is not null and mart in ('{{ marts | join("', '") }}')
)

select
    organization_id,
    mart,
    partner_id,
    period,
    metric,
    stored.verdict as stored_verdict,
    compared.verdict as compared_verdict
from stored
full join compared using (organization_id, mart, partner_id, period, metric)
where
    stored.verdict is distinct from compared.verdict
    and organization_id not in (select held.organization_id from metadata.held_keys as held)
