-- One row per organization, day and partner. A day is one of the reporting zone.

with spend as (
    select * from {{ touched(ref("fact_spend")) }}
),

events as (
    select * from {{ touched(ref("fact_events")) }}
),

event_types as (
    select * from {{ ref("event_types") }}
),

spend_by_day as (
    select
        organization_id,
        day,
        partner_id,
        sum(spend_amount) as spend,
        sum(impressions) as impressions,
        sum(clicks) as clicks
    from spend
    group by organization_id, day, partner_id
),

events_by_day as (
    select
        events.organization_id,
        events.day,
        events.partner_id,
        sum(case when event_types.is_revenue then events.amount else 0 end) as revenue,
        sum(events.event_count) as events
    from events
    left join event_types
        on events.engine = event_types.engine and events.event_type = event_types.event_type
    group by events.organization_id, events.day, events.partner_id
),

final as (
    select
        organization_id,
        day,
        partner_id,
        coalesce(spend_by_day.spend, 0)::numeric as spend,
        coalesce(events_by_day.revenue, 0)::numeric as revenue,
        (coalesce(events_by_day.revenue, 0) - coalesce(spend_by_day.spend, 0))::numeric as margin,
        coalesce(events_by_day.events, 0)::bigint as events,
        coalesce(spend_by_day.impressions, 0)::bigint as impressions,
        coalesce(spend_by_day.clicks, 0)::bigint as clicks
    from spend_by_day
    full join events_by_day using (organization_id, day, partner_id)
)

select * from final
