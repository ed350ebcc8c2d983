{% macro events_feed__oversight() %}{{ ref("stg_oversight__events") }}{% endmacro %}

-- One row per event that stands for something: a count or an amount.

with events as (
    select * from {{ newest_records(source("oversight", "events")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        occurred_at,
        {{ reporting_day("occurred_at") }} as day,
        'oversight:' || partner_id as partner_id,
        'oversight:' || campaign_id as campaign_id,
        event_type,
        coalesce(event_count, 0) as event_count,
        coalesce(amount, 0) as amount
    from events
    where coalesce(event_count, 0) <> 0 or coalesce(amount, 0) <> 0
)

select * from final
