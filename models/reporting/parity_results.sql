-- One row per organization, mart, partner, period and metric: the newest comparison with the
-- engine's own totals. A view with the caller's rights: the marts write their verdicts in the
-- transactions that publish their rows.
{{ config(materialized="view", on_schema_change="ignore") }}

with verdicts as (
    select * from {{ source("metadata", "parity_verdicts") }}
),

final as (
    select
        organization_id,
        mart,
        partner_id,
        period,
        metric,
        verdict,
        mart_value,
        control_value,
        difference,
        tolerance,
        checked_at
    from verdicts
    where {{ is_of_this_target("mart") }}
)

select * from final
