{% macro campaigns_feed__reddit_ads() %}{{ ref("stg_reddit_ads__campaigns") }}{% endmacro %}

-- One row per campaign. Reddit does not say when a campaign was made.

with campaigns as (
    select * from {{ newest_records(source("reddit_ads", "campaign")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        'reddit_ads:' || id as campaign_id,
        'reddit_ads:' || account_id as partner_id,
        name,
        objective,
        null::timestamptz as created_at
    from campaigns
)

select * from final
