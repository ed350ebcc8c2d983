{% macro events_feed__microsoft_ads() %}{{ ref("stg_microsoft_ads__events") }}{% endmacro %}

-- One row per day, campaign and way of delivery that has conversions.

with reports as (
    select *
    from
        {{ newest_records(source("microsoft_ads", "campaign_performance_daily_report")) }}
            as versions
),

final as (
    select
        organization_id,
        record_key,
        {{ reporting_midnight("date") }} as occurred_at,
        date as day,
        'microsoft_ads:' || account_id as partner_id,
        'microsoft_ads:' || campaign_id as campaign_id,
        'conversion'::text as event_type,
        coalesce(conversions, 0) as event_count,
        coalesce(revenue, 0) as amount
    from reports
    where coalesce(conversions, 0) <> 0 or coalesce(revenue, 0) <> 0
)

select * from final
