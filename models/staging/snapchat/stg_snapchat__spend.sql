{% macro spend_feed__snapchat() %}{{ ref("stg_snapchat__spend") }}{% endmacro %}

-- One row per ad and hour. The way to the account goes ad -> ad squad -> campaign -> account.
-- Snapchat states money in micros and calls clicks swipes.

with reports as (
    select * from {{ newest_records(source("snapchat", "ad_hourly_report")) }} as versions
),

ads as (
    select * from {{ newest_records(source("snapchat", "ad_history")) }} as versions
),

ad_squads as (
    select * from {{ newest_records(source("snapchat", "ad_squad_history")) }} as versions
),

campaigns as (
    select * from {{ newest_records(source("snapchat", "campaign_history")) }} as versions
),

final as (
    select
        reports.organization_id,
        reports.record_key,
        reports.date as occurred_at,
        {{ reporting_day("reports.date") }} as day,
        'snapchat:' || coalesce(campaigns.ad_account_id, 'unknown') as partner_id,
        'snapchat:' || ad_squads.campaign_id as campaign_id,
        coalesce(reports.spend, 0) * 0.000001 as spend_amount,
        coalesce(reports.swipes, 0) as clicks,
        coalesce(reports.impressions, 0) as impressions
    from reports
    left join ads
        on reports.organization_id = ads.organization_id and reports.ad_id = ads.id
    left join ad_squads
        on ads.organization_id = ad_squads.organization_id and ads.ad_squad_id = ad_squads.id
    left join campaigns
        on
            ad_squads.organization_id = campaigns.organization_id
            and ad_squads.campaign_id = campaigns.id
)

select * from final
