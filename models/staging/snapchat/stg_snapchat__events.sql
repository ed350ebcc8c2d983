{% macro events_feed__snapchat() %}{{ ref("stg_snapchat__events") }}{% endmacro %}

-- One row per ad, hour and kind of conversion that happened. Only purchases have a value, in units,
-- not in micros.

with reports as (
    select * from {{ newest_records(source("snapchat", "ad_hourly_report")) }} as versions
),

conversions as (
    select
        reports.organization_id,
        reports.record_key,
        reports.ad_id,
        reports.date,
        kinds.event_type,
        coalesce(kinds.event_count, 0) as event_count,
        coalesce(kinds.amount, 0) as amount
    from reports
    cross join
        lateral (
            values
            ('add_billing', reports.conversion_add_billing, 0),
            ('add_cart', reports.conversion_add_cart, 0),
            ('app_opens', reports.conversion_app_opens, 0),
            ('level_completes', reports.conversion_level_completes, 0),
            ('page_views', reports.conversion_page_views, 0),
            ('purchases', reports.conversion_purchases, reports.conversion_purchases_value),
            ('save', reports.conversion_save, 0),
            ('searches', reports.conversion_searches, 0),
            ('sign_ups', reports.conversion_sign_ups, 0),
            ('start_checkout', reports.conversion_start_checkout, 0),
            ('view_content', reports.conversion_view_content, 0)
        ) as kinds (event_type, event_count, amount)
    where coalesce(kinds.event_count, 0) <> 0 or coalesce(kinds.amount, 0) <> 0
),

final as (
    select
        conversions.organization_id,
        conversions.record_key,
        conversions.date as occurred_at,
        {{ reporting_day("conversions.date") }} as day,
        'snapchat:' || coalesce(campaigns.ad_account_id, 'unknown') as partner_id,
        'snapchat:' || ad_squads.campaign_id as campaign_id,
        conversions.event_type,
        conversions.event_count,
        conversions.amount
    from conversions
    left join
        {{ newest_record(
            source("snapchat", "ad_history"), "conversions.organization_id", "conversions.ad_id"
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
