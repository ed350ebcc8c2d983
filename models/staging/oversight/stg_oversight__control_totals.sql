{% macro control_totals_feed__oversight() %}{{ ref("stg_oversight__control_totals") }}{% endmacro %}

-- One row per partner and day, as the engine counts it apart from its records.

with totals as (
    select * from {{ newest_records(source("oversight", "control_totals")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        day,
        'oversight:' || partner_id as partner_id,
        spend_amount,
        revenue_amount,
        events,
        impressions,
        clicks,
        0.01 as precision
    from totals
)

select * from final
