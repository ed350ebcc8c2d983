{% macro events_feed__reddit_ads() %}{{ ref("stg_reddit_ads__events") }}{% endmacro %}

-- One row per account, campaign, day and kind of conversion. Reddit states values in units, not in
-- micros.

with reports as (
    select * from {{ newest_records(source("reddit_ads", "campaign_conversions")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        {{ reporting_midnight("date") }} as occurred_at,
        date as day,
        'reddit_ads:' || account_id as partner_id,
        'reddit_ads:' || campaign_id as campaign_id,
        event_name as event_type,
        coalesce(total_items, 0) as event_count,
        coalesce(total_value, 0) as amount
    from reports
    where coalesce(total_items, 0) <> 0 or coalesce(total_value, 0) <> 0
)

select * from final
