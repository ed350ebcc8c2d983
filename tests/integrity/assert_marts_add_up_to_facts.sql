-- Each mart's spend, per organization and partner, is the facts' spend to the last digit: no key
-- was forgotten and none was counted twice. Keys that are withheld (`parity: hold`) are out of
-- this. Returns what differs.

with spend as (
    select
        organization_id,
        partner_id,
        sum(spend_amount) as spend
    from {{ ref("fact_spend") }}
    group by organization_id, partner_id
),

daily as (
    select
        organization_id,
        partner_id,
        sum(spend) as spend
    from {{ ref("daily_metrics") }}
    group by organization_id, partner_id
),

weekly as (
    select
        organization_id,
        partner_id,
        sum(spend) as spend
    from {{ ref("weekly_partner_performance") }}
    group by organization_id, partner_id
),

compared as (
    select
        organization_id,
        partner_id,
        coalesce(spend.spend, 0) as fact_spend,
        coalesce(daily.spend, 0) as daily_spend,
        coalesce(weekly.spend, 0) as weekly_spend
    from spend
    full join daily using (organization_id, partner_id)
    full join weekly using (organization_id, partner_id)
)

select compared.*
from compared
left join metadata.held_keys as held on compared.organization_id = held.organization_id
where
    held.organization_id is null
    and (
        compared.fact_spend is distinct from compared.daily_spend
        or compared.fact_spend is distinct from compared.weekly_spend
    )
