{% macro partners_feed__snapchat() %}{{ ref("stg_snapchat__partners") }}{% endmacro %}

-- One row per account. Snapchat gives accounts neither a region nor a state.

with accounts as (
    select * from {{ newest_records(source("snapchat", "ad_account_history")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        'snapchat:' || id as partner_id,
        name,
        null::text as region,
        null::text as status
    from accounts
)

select * from final
