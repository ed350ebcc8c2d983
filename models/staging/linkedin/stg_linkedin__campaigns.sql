{% macro campaigns_feed__linkedin() %}{{ ref("stg_linkedin__campaigns") }}{% endmacro %}

-- One row per campaign. LinkedIn gives no objective.

with campaigns as (
    select * from {{ newest_records(source("linkedin", "ad_campaign_history")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        'linkedin:' || id as campaign_id,
        'linkedin:' || account_id as partner_id,
        name,
        null::text as objective,
        created_time as created_at
    from campaigns
)

select * from final
