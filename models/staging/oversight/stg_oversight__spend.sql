{% macro spend_feed__oversight() %}{{ ref("stg_oversight__spend") }}{% endmacro %}

-- One row per spend record.

with spend as (
    select * from {{ newest_records(source("oversight", "spend")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        occurred_at,
        {{ reporting_day("occurred_at") }} as day,
        'oversight:' || partner_id as partner_id,
        'oversight:' || campaign_id as campaign_id,
        coalesce(spend_amount, 0) as spend_amount,
        coalesce(clicks, 0) as clicks,
        coalesce(impressions, 0) as impressions
    from spend
)

select * from final
