{% macro campaigns_feed__microsoft_ads() %}{{ ref("stg_microsoft_ads__campaigns") }}{% endmacro %}

-- One row per campaign. The objective is the kind of campaign; Microsoft does not say when it was
-- made.

with campaigns as (
    select * from {{ newest_records(source("microsoft_ads", "campaign_history")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        'microsoft_ads:' || id as campaign_id,
        'microsoft_ads:' || account_id as partner_id,
        name,
        type as objective,
        null::timestamptz as created_at
    from campaigns
)

select * from final
