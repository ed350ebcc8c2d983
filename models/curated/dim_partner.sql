-- One row per organization and partner: its record's newest version, or an inferred row where only
-- others mention it.
{{
    config(
        indexes=[
            {"columns": ["organization_id", "partner_id"], "unique": true},
            {"columns": ["record_key"]},
        ],
    )
}}

with records as (
    select * from {{ ref("int_partners__unioned") }}
    where {{ is_touched_id("partner_id") }}
),

spend as (
    select
        organization_id,
        partner_id
    from {{ touched_by_id(ref("fact_spend"), "partner_id") }}
),

events as (
    select
        organization_id,
        partner_id
    from {{ touched_by_id(ref("fact_events"), "partner_id") }}
),

campaigns as (
    select
        organization_id,
        partner_id
    from {{ touched_by_id(ref("dim_campaign"), "partner_id") }}
),

mentioned as (
    select
        organization_id,
        partner_id
    from spend
    union
    select
        organization_id,
        partner_id
    from events
    union
    select
        organization_id,
        partner_id
    from campaigns
),

inferred as (
    select
        m.organization_id,
        m.partner_id
    from mentioned as m
    left join records as r
        on m.organization_id = r.organization_id and m.partner_id = r.partner_id
    where r.partner_id is null
),

final as (
    select
        organization_id,
        partner_id,
        record_key,
        name,
        region,
        status,
        false as is_inferred
    from records
    union all
    select
        organization_id,
        partner_id,
        null::text as record_key,
        null::text as name,
        null::text as region,
        null::text as status,
        true as is_inferred
    from inferred
)

select * from final
