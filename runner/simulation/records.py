"""The records of the simulated reporting engine as DuckDB SQL over a range of numbers.

Every value is drawn from the record's number by integer arithmetic, so a record can be written
without knowing any other: files of any size stream, and a seed gives the same bytes everywhere.

A record has states: state 0 is how it was first extracted, states 1 and 2 how later extracts show
it. Only records chosen by the scenario (`is_chosen`) differ between states.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from runner.simulation.specification import Simulation

MODULI = (2_147_483_647, 2_147_483_629, 2_147_483_587)
SHARES = 1_000_000

PARTNER_NAMES = (
    "Alder Outdoor",
    "Brightwater Media",
    "Copper & Sons, Limited",
    'Dune "Night" Radio',
    "Estuary Search",
    "Fjällräv Affiliates",
    "Granite Local",
    "Harbour Video",
)
REGIONS = ("AMER", "APAC", "EMEA")
OBJECTIVES = ("awareness", "conversion", "retention")


def draw(population: Simulation, name: str) -> str:
    """A number below 2**31 that depends on the seed, the name and the record only.

    Three affine steps under three prime moduli; products stay below 2**62, so BIGINT is enough.
    """
    digest = hashlib.sha256(f"{population.seed}:{name}".encode()).digest()
    words = [int.from_bytes(digest[at : at + 4], "big") for at in range(0, 24, 4)]
    first, second, third = (word % 1_000_000_007 + 1_000_003 for word in words[:3])
    shifts = [word % 1_000_000_007 for word in words[3:]]
    return (
        f"((((j * {first} + {shifts[0]}) % {MODULI[0]} * {second} + {shifts[1]})"
        f" % {MODULI[1]} * {third} + {shifts[2]}) % {MODULI[2]})"
    )


def chosen(population: Simulation, table: str) -> str:
    """The condition that selects the records with which the scenario does something."""
    share = f"{draw(population, f'{table} share')} % {SHARES} < {round(population.share * SHARES)}"
    return {
        "steady": "false",
        "drift": "false",
        "outage": f"day_index between {population.outage.start} and {population.outage.stop - 1}",
        "late": f"day_index < {population.days - 1} and {share}",
    }.get(population.scenario, share)


def records(
    population: Simulation,
    table: str,
    total: int,
    first: int,
    last: int,
    *,
    state: int,
    moment: datetime,
) -> str:
    """The records numbered first..last-1 of a table of `total`, in a state, with all helpers.

    `moment` is the version time of records that the state changes.
    """
    p = population
    changes = (
        f"is_chosen and {state} > 0"
        if p.scenario in ("corrected", "moved", "withdrawn")
        else "false"
    )
    reinstated = f"({draw(p, f'{table} reinstated')} % 2 = 0)"
    moves_partner = (
        "true"
        if p.days < 2
        else f"({draw(p, f'{table} moves')} % 2 = 0)"
        if p.partners > 1
        else "false"
    )
    is_moved = p.scenario == "moved"
    new_day = f"(day_index + 1 + {draw(p, f'{table} new day')} % {max(p.days - 1, 1)}) % {p.days}"
    step = f"{draw(p, f'{table} new partner')} % {max(p.partners - 1, 1)}"
    new_partner = f"(partner + 1 + {step}) % {p.partners}"
    midnight = f"timestamp '{p.first_day.isoformat()} 00:00:00'"
    withdrawn = {0: "false", 1: "is_chosen", 2: "is_chosen and not is_reinstated"}[state]
    occurred = f"{midnight} + to_seconds(final_day_index * 86400 + second_of_day)"
    first_occurred = f"{midnight} + to_seconds(day_index * 86400 + second_of_day)"
    return f"""
    with numbered as (
        select
            j,
            j % {p.organizations} as organization,
            j // {p.organizations} as number,
            j * {p.days} // {max(total, 1)} as day_index,
            {draw(p, f"{table} second")} % 86400 as second_of_day,
            least(
                {draw(p, f"{table} partner")} % {p.partners},
                {draw(p, f"{table} partner two")} % {p.partners}
            ) as partner,
            {draw(p, f"{table} campaign")} % {p.campaigns_per_partner * 33} as campaign_draw,
            {draw(p, f"{table} delay")} % 3600 as delay_seconds
        from range({first}, {last}) as numbers(j)
    ),
    selected as (
        select *, {chosen(p, table)} as is_chosen, {reinstated} as is_reinstated from numbered
    ),
    placed as (
        select
            *,
            {changes} as is_changed,
            {changes} and {str(is_moved).lower()} and {moves_partner} as is_moved_partner,
            {changes} and {str(is_moved).lower()} and not {moves_partner} as is_moved_day
        from selected
    ),
    settled as (
        select
            *,
            case when is_moved_day then {new_day} else day_index end as final_day_index,
            case when is_moved_partner then {new_partner} else partner end as final_partner
        from placed
    ),
    measured as ({measures(p, table)})
    select
        *,
        {occurred} as occurred_at,
        case when is_changed then timestamp '{moment:%Y-%m-%d %H:%M:%S}'
            else {first_occurred} + to_seconds(delay_seconds) end as updated_at,
        {withdrawn if p.scenario == "withdrawn" else "false"} as is_withdrawn
    from measured
    """


def measures(population: Simulation, table: str) -> str:
    """The select that adds a table's figures to `settled`; amounts in cents."""
    p = population
    is_corrected = "is_changed" if p.scenario == "corrected" else "false"
    correction = (
        f"case when {is_corrected} then 1 + {draw(p, f'{table} correction')} % 5000 else 0 end"
    )
    weekday = f"({p.first_day.weekday()} + day_index) % 7"
    if table == "spend":
        return f"""
        select
            *,
            clicks * (10 + {draw(p, "spend price")} % 80)
                * case when {weekday} > 4 then 7 else 10 end // 10
                + {draw(p, "spend cents")} % 100 + {correction} as cents
        from (
            select *, impressions * (1 + {draw(p, "spend clicks")} % 60) // 1000 as clicks
            from (
                select
                    *, 20 + {draw(p, "spend impressions")} % 2000 + {correction} as impressions
                from settled
            )
        )
        """
    return f"""
        select
            *,
            case when event_type = 'revenue'
                then 1000 + {draw(p, "event cents")} % 49000 + {correction} else 0 end as cents,
            case event_type
                when 'view' then 1 + {draw(p, "event count")} % 20
                when 'click' then 1 + {draw(p, "event count")} % 5
                else 1 end
                + case when {is_corrected} and event_type <> 'revenue' then 1 else 0 end
                as event_count
        from (
            select
                *,
                case when type_draw < 60 then 'view' when type_draw < 85 then 'click'
                    when type_draw < 94 then 'signup' else 'revenue' end as event_type
            from (select *, {draw(p, "event type")} % 100 as type_draw from settled)
        )
        """


def identifier(prefix: str, number: str) -> str:
    """An id with a number counted from one, three digits wide or wider."""
    text = f"cast({number} + 1 as varchar)"
    return f"'{prefix}_' || repeat('0', 3 - length({text})) || {text}"


def extract_columns(population: Simulation, table: str, *, zoned: bool) -> str:
    """A table's columns as the native extract has them; `zoned` types timestamps (Parquet)."""

    def moment(name: str) -> str:
        return f"timezone('UTC', {name}) as {name}" if zoned else name

    campaign = (
        f"case when campaign_draw % 33 > 0 then {identifier('campaign', 'final_partner')}"
        f" || '_' || cast(campaign_draw // 33 + 1 as varchar) end as campaign_id"
    )
    money = "cast(cents * 0.01 as decimal(18, 2))"
    key = "spend_id" if table == "spend" else "event_id"
    figures = {
        "spend": f"{money} as spend_amount, clicks, impressions,"
        f" '{population.currency}' as currency",
        "events": f"event_type, event_count, {money} as amount",
    }[table]
    return (
        f"{identifier(population.organization_prefix, 'organization')} as organization_id,"
        f" '{key[0]}' || cast(number + 1 as varchar) as {key},"
        f" {moment('occurred_at')}, {identifier('partner', 'final_partner')} as partner_id,"
        f" {campaign},"
        f" {figures}, {moment('updated_at')}, is_withdrawn"
    )


def control_totals(population: Simulation, spend: str, events: str) -> str:
    """What the engine counts per organization, day and partner."""
    return f"""
    select
        {identifier(population.organization_prefix, "organization")} as organization_id,
        cast(
            date '{population.first_day.isoformat()}' + cast(final_day_index as integer) as date
        ) as day,
        {identifier("partner", "final_partner")} as partner_id,
        cast(cast(sum(spend_cents) as bigint) * 0.01 as decimal(18, 2)) as spend_amount,
        cast(cast(sum(revenue_cents) as bigint) * 0.01 as decimal(18, 2)) as revenue_amount,
        cast(sum(event_count) as bigint) as events,
        cast(sum(impressions) as bigint) as impressions,
        cast(sum(clicks) as bigint) as clicks
    from (
        select organization, final_day_index, final_partner, cents as spend_cents,
            0 as revenue_cents, 0 as event_count, impressions, clicks
        from ({spend}) where not is_withdrawn
        union all
        select organization, final_day_index, final_partner, 0, cents, event_count, 0, 0
        from ({events}) where not is_withdrawn
    )
    group by organization, final_day_index, final_partner
    order by organization, final_day_index, final_partner
    """


def partners(population: Simulation, *, zoned: bool) -> str:
    """One row per organization and partner; organizations share the partner ids, on purpose."""
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in PARTNER_NAMES)
    regions = ", ".join(f"'{region}'" for region in REGIONS)
    opened = f"timestamp '{population.first_day.isoformat()} 00:00:00'"
    return f"""
    select
        {identifier(population.organization_prefix, "organization")} as organization_id,
        {identifier("partner", "partner")} as partner_id,
        list_extract([{names}], partner % {len(PARTNER_NAMES)} + 1)
            || case when partner < {len(PARTNER_NAMES)} then ''
                else ' ' || cast(partner // {len(PARTNER_NAMES)} + 1 as varchar) end as name,
        case when {draw(population, "region")} % 8 > 0
            then list_extract([{regions}], {draw(population, "region name")} % {len(REGIONS)} + 1)
        end as region,
        case when {draw(population, "status")} % 10 > 0 then 'active' else 'paused' end as status,
        {f"timezone('UTC', {opened})" if zoned else opened} as updated_at
    from (
        select j, j // {population.partners} as organization, j % {population.partners} as partner
        from range({population.organizations * population.partners}) as numbers(j)
    )
    order by j
    """


def campaigns(population: Simulation, *, zoned: bool) -> str:
    """One row per organization and campaign."""
    p = population
    opened = f"timestamp '{p.first_day.isoformat()} 00:00:00'"
    created = f"{opened} - to_days(cast(1 + {draw(p, 'campaign age')} % 365 as integer))"
    objectives = ", ".join(f"'{objective}'" for objective in OBJECTIVES)

    def moment(text: str) -> str:
        return f"timezone('UTC', {text})" if zoned else text

    return f"""
    select
        {identifier(population.organization_prefix, "organization")} as organization_id,
        {identifier("campaign", "partner")} || '_' || cast(campaign + 1 as varchar) as campaign_id,
        {identifier("partner", "partner")} as partner_id,
        'Campaign ' || cast(campaign + 1 as varchar) as name,
        list_extract([{objectives}], {draw(p, "objective")} % {len(OBJECTIVES)} + 1) as objective,
        {moment(created)} as created_at,
        {moment(opened)} as updated_at
    from (
        select
            j,
            j // {p.partners * p.campaigns_per_partner} as organization,
            j // {p.campaigns_per_partner} % {p.partners} as partner,
            j % {p.campaigns_per_partner} as campaign
        from range({p.organizations * p.partners * p.campaigns_per_partner}) as numbers(j)
    )
    order by j
    """
