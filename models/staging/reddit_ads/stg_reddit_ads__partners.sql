{% macro partners_feed__reddit_ads() %}{{ ref("stg_reddit_ads__partners") }}{% endmacro %}

-- One row per account. Reddit gives accounts neither a name nor a region.

with accounts as (
    select * from {{ newest_records(source("reddit_ads", "account")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        'reddit_ads:' || id as partner_id,
        null::text as name,
        null::text as region,
        status
    from accounts
)

select * from final
