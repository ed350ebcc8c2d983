{% macro events_feed__google_ads() %}{{ ref("stg_google_ads__events") }}{% endmacro %}

-- One row per day, campaign, device and network that has conversions. Google shares a conversion
-- among clicks, so its counts may have fractions; events are whole, so they are rounded per record.

with reports as (
    select * from {{ newest_records(source("google_ads", "campaign_stats")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        {{ reporting_midnight("date") }} as occurred_at,
        date as day,
        'google_ads:' || customer_id as partner_id,
        'google_ads:' || id as campaign_id,
        'conversion'::text as event_type,
        round(coalesce(conversions, 0))::bigint as event_count,
        coalesce(conversions_value, 0) as amount
    from reports
    where round(coalesce(conversions, 0)) <> 0 or coalesce(conversions_value, 0) <> 0
)

select * from final
