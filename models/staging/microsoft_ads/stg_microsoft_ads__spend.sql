{% macro spend_feed__microsoft_ads() %}{{ ref("stg_microsoft_ads__spend") }}{% endmacro %}

-- One row per day, campaign and way of delivery (device, network, match, place, budget).

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
        coalesce(spend, 0) as spend_amount,
        coalesce(clicks, 0) as clicks,
        coalesce(impressions, 0) as impressions
    from reports
)

select * from final
