{% macro partners_feed__linkedin() %}{{ ref("stg_linkedin__partners") }}{% endmacro %}

-- One row per account. LinkedIn gives accounts neither a region nor a state.

with accounts as (
    select * from {{ newest_records(source("linkedin", "ad_account_history")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        'linkedin:' || id as partner_id,
        name,
        null::text as region,
        null::text as status
    from accounts
)

select * from final
