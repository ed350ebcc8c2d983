-- One row per organization, ISO week (its Monday) and partner.

with spend as (
    select * from {{ touched(ref("fact_spend")) }}
),

events as (
    select * from {{ touched(ref("fact_events")) }}
),

event_types as (
    select * from {{ ref("event_types") }}
),

spend_by_week as (
    select
        organization_id,
        date_trunc('week', day)::date as week,
        partner_id,
        sum(spend_amount) as spend
    from spend
    group by organization_id, date_trunc('week', day)::date, partner_id
),

revenue_by_week as (
    select
        events.organization_id,
        date_trunc('week', events.day)::date as week,
        events.partner_id,
        sum(case when event_types.is_revenue then events.amount else 0 end) as revenue
    from events
    left join event_types
        on events.engine = event_types.engine and events.event_type = event_types.event_type
    group by events.organization_id, date_trunc('week', events.day)::date, events.partner_id
),

final as (
    select
        organization_id,
        week,
        partner_id,
        coalesce(spend_by_week.spend, 0)::numeric as spend,
        coalesce(revenue_by_week.revenue, 0)::numeric as revenue,
        (coalesce(revenue_by_week.revenue, 0) - coalesce(spend_by_week.spend, 0))::numeric as margin
    from spend_by_week
    full join revenue_by_week using (organization_id, week, partner_id)
)

select * from final
