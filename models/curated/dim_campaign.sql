-- One row per organization and campaign: its record's newest version, or an inferred row where
-- only facts mention it.
{{
    config(
        indexes=[
            {"columns": ["organization_id", "campaign_id"], "unique": true},
            {"columns": ["record_key"]},
        ],
    )
}}

with records as (
    select * from {{ ref("int_campaigns__unioned") }}
    where {{ is_touched_id("campaign_id") }}
),

spend as (
    select
        organization_id,
        campaign_id,
        partner_id
    from {{ touched_by_id(ref("fact_spend"), "campaign_id") }}
),

events as (
    select
        organization_id,
        campaign_id,
        partner_id
    from {{ touched_by_id(ref("fact_events"), "campaign_id") }}
),

mentioned as (
    select
        organization_id,
        campaign_id,
        partner_id
    from spend
    union all
    select
        organization_id,
        campaign_id,
        partner_id
    from events
),

-- A campaign that nobody described belongs to the partner that its facts name.
inferred as (
    select
        m.organization_id,
        m.campaign_id,
        min(m.partner_id) as partner_id
    from mentioned as m
    left join records as r
        on m.organization_id = r.organization_id and m.campaign_id = r.campaign_id
    where m.campaign_id is not null and r.campaign_id is null
    group by m.organization_id, m.campaign_id
),

final as (
    select
        organization_id,
        campaign_id,
        partner_id,
        record_key,
        name,
        objective,
        false as is_inferred,
        created_at
    from records
    union all
    select
        organization_id,
        campaign_id,
        partner_id,
        null::text as record_key,
        null::text as name,
        null::text as objective,
        true as is_inferred,
        null::timestamptz as created_at
    from inferred
)

select * from final
