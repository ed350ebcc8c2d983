{% macro control_totals_feed__reddit_ads() %}
    {{ ref("stg_reddit_ads__control_totals") }}
{% endmacro %}

-- One row per account and day. The account report is counted apart from the campaign report that it
-- controls. Conversions of accounts do not equal those of campaigns, so they control nothing.

with reports as (
    select * from {{ newest_records(source("reddit_ads", "account_report")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        date as day,
        'reddit_ads:' || account_id as partner_id,
        spend * 0.000001 as spend_amount,
        null::numeric as revenue_amount,
        null::bigint as events,
        impressions,
        clicks,
        0.000001 as precision
    from reports
)

select * from final
