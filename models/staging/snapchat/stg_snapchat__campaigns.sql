{% macro campaigns_feed__snapchat() %}{{ ref("stg_snapchat__campaigns") }}{% endmacro %}

-- One row per campaign. Snapchat gives neither an objective nor a time.

with campaigns as (
    select * from {{ newest_records(source("snapchat", "campaign_history")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        'snapchat:' || id as campaign_id,
        'snapchat:' || ad_account_id as partner_id,
        name,
        null::text as objective,
        null::timestamptz as created_at
    from campaigns
)

select * from final
