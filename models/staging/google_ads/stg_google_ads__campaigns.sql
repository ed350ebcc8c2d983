{% macro campaigns_feed__google_ads() %}{{ ref("stg_google_ads__campaigns") }}{% endmacro %}

-- One row per campaign. The objective is the channel; a start date is not when it was made.

with campaigns as (
    select * from {{ newest_records(source("google_ads", "campaign_history")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        'google_ads:' || id as campaign_id,
        'google_ads:' || customer_id as partner_id,
        name,
        advertising_channel_type as objective,
        null::timestamptz as created_at
    from campaigns
)

select * from final
