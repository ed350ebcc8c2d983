{% macro spend_feed__snapchat() %}{{ ref("stg_snapchat__spend") }}{% endmacro %}

-- One row per ad and hour. The way to the account goes ad -> ad squad -> campaign -> account.
-- Snapchat states money in micros and calls clicks swipes.

with reports as (
    select * from {{ newest_records(source("snapchat", "ad_hourly_report")) }} as versions
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
    left join
        {{ newest_record(
            source("snapchat", "ad_history"), "reports.organization_id", "reports.ad_id"
        ) }} as ads
        on true
    left join
        {{ newest_record(
            source("snapchat", "ad_squad_history"), "ads.organization_id", "ads.ad_squad_id"
        ) }} as ad_squads
        on true
    left join
        {{ newest_record(
            source("snapchat", "campaign_history"), "ad_squads.organization_id", "ad_squads.campaign_id"
        ) }} as campaigns
        on true
)

select * from final
