{% macro control_totals_feed__google_ads() %}
    {{ ref("stg_google_ads__control_totals") }}
{% endmacro %}

-- One row per account and day, as the engine counts it apart from its reports.

with totals as (
    select * from {{ newest_records(source("google_ads", "control_totals")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        day,
        'google_ads:' || partner_id as partner_id,
        spend_amount,
        revenue_amount,
        events,
        impressions,
        clicks,
        0.01 as precision
    from totals
)

select * from final
