{% macro partners_feed__microsoft_ads() %}{{ ref("stg_microsoft_ads__partners") }}{% endmacro %}

-- One row per account. Microsoft gives accounts neither a region nor a state.

with accounts as (
    select * from {{ newest_records(source("microsoft_ads", "account_history")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        'microsoft_ads:' || id as partner_id,
        name,
        null::text as region,
        null::text as status
    from accounts
)

select * from final
