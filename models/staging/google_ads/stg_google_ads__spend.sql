{% macro spend_feed__google_ads() %}{{ ref("stg_google_ads__spend") }}{% endmacro %}

-- One row per day, campaign, device and network. Google states money in micros.

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
        coalesce(cost_micros, 0) * 0.000001 as spend_amount,
        coalesce(clicks, 0) as clicks,
        coalesce(impressions, 0) as impressions
    from reports
)

select * from final
