{% macro spend_feed__reddit_ads() %}{{ ref("stg_reddit_ads__spend") }}{% endmacro %}

-- One row per account, campaign and day. Reddit states money in micros.

with reports as (
    select * from {{ newest_records(source("reddit_ads", "campaign_report")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        {{ reporting_midnight("date") }} as occurred_at,
        date as day,
        'reddit_ads:' || account_id as partner_id,
        'reddit_ads:' || campaign_id as campaign_id,
        coalesce(spend, 0) * 0.000001 as spend_amount,
        coalesce(clicks, 0) as clicks,
        coalesce(impressions, 0) as impressions
    from reports
)

select * from final
