-- One row per spend record of an engine. Refreshed by record: what a batch touched is taken out
-- and written again.
{{
    config(
        indexes=[
            {"columns": ["record_key"], "unique": true},
            {"columns": ["organization_id", "partner_id", "day"]},
            {"columns": ["organization_id", "campaign_id", "partner_id"]},
        ],
    )
}}

with records as (
    select * from {{ ref("int_spend__unioned") }}
),

final as (
    select
        organization_id,
        record_key,
        partner_id,
        campaign_id,
        day,
        spend_amount,
        clicks,
        impressions,
        occurred_at
    from records
    where {{ is_touched_record("record_key") }}
)

select * from final
