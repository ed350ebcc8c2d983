{% macro campaigns_feed__oversight() %}{{ ref("stg_oversight__campaigns") }}{% endmacro %}

-- One row per campaign. The native engine knows all of it.

with campaigns as (
    select * from {{ newest_records(source("oversight", "campaigns")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        'oversight:' || campaign_id as campaign_id,
        'oversight:' || partner_id as partner_id,
        name,
        objective,
        created_at
    from campaigns
)

select * from final
