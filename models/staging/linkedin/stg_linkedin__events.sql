{% macro events_feed__linkedin() %}{{ ref("stg_linkedin__events") }}{% endmacro %}

-- One row per campaign and day that has conversions. The account comes from the campaign.

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
        'conversion'::text as event_type,
        coalesce(reports.external_website_conversions, 0) as event_count,
        coalesce(reports.conversion_value_in_local_currency, 0) as amount
    from reports
    left join
        {{ newest_record(
            source("linkedin", "ad_campaign_history"), "reports.organization_id", "reports.campaign_id"
        ) }} as campaigns
        on true
    where
        coalesce(reports.external_website_conversions, 0) <> 0
        or coalesce(reports.conversion_value_in_local_currency, 0) <> 0
)

select * from final
