{% macro spend_feed__linkedin() %}{{ ref("stg_linkedin__spend") }}{% endmacro %}

-- One row per campaign and day. The account comes from the campaign; days without delivery have
-- no cost.

with reports as (
    select * from {{ newest_records(source("linkedin", "ad_analytics_by_campaign")) }} as versions
),

final as (
    select
        reports.organization_id,
        reports.record_key,
        {{ reporting_midnight("reports.day") }} as occurred_at,
        reports.day,
        'linkedin:' || coalesce(campaigns.account_id, 'unknown') as partner_id,
        'linkedin:' || reports.campaign_id as campaign_id,
        coalesce(reports.cost_in_usd, 0) as spend_amount,
        coalesce(reports.clicks, 0) as clicks,
        coalesce(reports.impressions, 0) as impressions
    from reports
    left join
        {{ newest_record(
            source("linkedin", "ad_campaign_history"), "reports.organization_id", "reports.campaign_id"
        ) }} as campaigns
        on true
)

select * from final
