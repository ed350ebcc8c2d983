{% macro partners_feed__google_ads() %}{{ ref("stg_google_ads__partners") }}{% endmacro %}

-- One row per account. Google gives accounts neither a region nor a state.

with accounts as (
    select * from {{ newest_records(source("google_ads", "account_history")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        'google_ads:' || id as partner_id,
        descriptive_name as name,
        null::text as region,
        null::text as status
    from accounts
)

select * from final
