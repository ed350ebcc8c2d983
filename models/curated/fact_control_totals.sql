-- One row per organization, day and partner of the engines' own totals; NULL where the engine
-- gives no figure.
{{
    config(
        indexes=[
            {"columns": ["record_key"], "unique": true},
            {"columns": ["organization_id", "partner_id", "day"]},
        ],
    )
}}

with records as (
    select * from {{ ref("int_control_totals__unioned") }}
),

final as (
    select
        organization_id,
        record_key,
        partner_id,
        day,
        spend_amount,
        revenue_amount,
        events,
        impressions,
        clicks,
        precision
    from records
    where {{ is_touched_record("record_key") }}
)

select * from final
