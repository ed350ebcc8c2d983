{% macro partners_feed__oversight() %}{{ ref("stg_oversight__partners") }}{% endmacro %}

-- One row per account. The native engine knows all of it.

with accounts as (
    select * from {{ newest_records(source("oversight", "partners")) }} as versions
),

final as (
    select
        organization_id,
        record_key,
        'oversight:' || partner_id as partner_id,
        name,
        region,
        status
    from accounts
)

select * from final
