-- One row per source record and event type. Refreshed by record: what a batch touched is taken out
-- and written again.
{{
    config(
        indexes=[
            {"columns": ["record_key", "event_type"], "unique": true},
            {"columns": ["organization_id", "partner_id", "day"]},
            {"columns": ["organization_id", "campaign_id", "partner_id"]},
        ],
    )
}}

with records as (
    select * from {{ ref("int_events__unioned") }}
),

final as (
    select
        organization_id,
        record_key,
        engine,
        partner_id,
        campaign_id,
        event_type,
        day,
        event_count,
        amount,
        occurred_at
    from records
    where {{ is_touched_record("record_key") }}
)

select * from final
