"""Histories for the property test of refreshes: what engines say, and in which order it arrives.

A history is a list of versions and of snapshots; the place in it is the version number or the as-of
time, so that any order of arrival has one truth. Snapchat's reports have no version of their own:
there the later batch counts. Few ids and few days, on both sides of a turn of the year, so that
records collide, move and leave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

FIRST_DAY = date(2026, 12, 30)
FIRST_EXTRACT = datetime(2027, 2, 1, tzinfo=timezone.utc)
DAYS = 7
ORGANIZATIONS = ("left", "right")
PARTNERS = ("p1", "p2", "p3")
Values = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Version:
    """One version of one record of a raw table."""

    engine: str
    table: str
    values: Values


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Control totals of the days `first` to `last`, counted from FIRST_DAY."""

    first: int
    last: int
    rows: tuple[Values, ...]


Item = Version | Snapshot


def moments() -> st.SearchStrategy[str]:
    """Hours of a week that holds the end of an ISO year."""
    return st.builds(
        lambda day, hour: f"{FIRST_DAY + timedelta(days=day)}T{hour:02}:00:00Z",
        st.integers(0, DAYS - 1),
        st.sampled_from((0, 23)),
    )


def money() -> st.SearchStrategy[str]:
    return st.integers(0, 500).map(lambda cents: f"{cents / 100:.2f}")


def native(table: str, **values: st.SearchStrategy[Any]) -> st.SearchStrategy[Version]:
    """Versions of the native engine, one in four withdrawn."""
    everything = {
        "organization_id": st.sampled_from(ORGANIZATIONS),
        **values,
        "is_withdrawn": st.sampled_from(("false", "false", "false", "true")),
    }
    return st.fixed_dictionaries(everything).map(
        lambda row: Version(engine="oversight", table=table, values=tuple(row.items()))
    )


def snapchat(table: str, **values: st.SearchStrategy[Any]) -> st.SearchStrategy[Version]:
    """Versions of an engine with a chain of parents."""
    return st.fixed_dictionaries(values).map(
        lambda row: Version(engine="snapchat", table=table, values=tuple(row.items()))
    )


@st.composite
def snapshots(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Snapshot:
    """Control totals of a window; some agree with the records by chance, most don't."""
    first = draw(st.integers(0, DAYS - 1))
    last = draw(st.integers(first, DAYS - 1))
    keys = st.tuples(
        st.sampled_from(ORGANIZATIONS), st.integers(first, last), st.sampled_from(PARTNERS)
    )
    figures = st.fixed_dictionaries(
        {
            "spend_amount": st.one_of(st.none(), money()),
            "revenue_amount": st.sampled_from((None, "0.00")),
            "events": st.one_of(st.none(), st.integers(0, 9)),
            "impressions": st.integers(0, 9),
        }
    )
    found = draw(st.dictionaries(keys, figures, min_size=1, max_size=4))
    rows = tuple(
        (
            ("organization_id", organization),
            ("day", str(FIRST_DAY + timedelta(days=day))),
            ("partner_id", partner),
            *values.items(),
        )
        for (organization, day, partner), values in found.items()
    )
    return Snapshot(first=first, last=last, rows=rows)


def items() -> st.SearchStrategy[Item]:
    """A version of any record of two engines, or a snapshot."""
    partner = st.sampled_from(PARTNERS)
    campaign = st.sampled_from((None, "c1", "c2", "c3"))
    counts = st.integers(0, 9)
    accounts, chains = st.sampled_from(("a1", "a2")), st.sampled_from(("x1", "x2"))
    spend, events = (
        native(
            "spend", spend_id=st.sampled_from(("s1", "s2")), occurred_at=moments(),
            partner_id=partner, campaign_id=campaign, spend_amount=money(), clicks=counts,
            impressions=counts, currency=st.just("USD"),
        ),
        native(
            "events", event_id=st.sampled_from(("e1", "e2")), occurred_at=moments(),
            partner_id=partner, campaign_id=campaign,
            event_type=st.sampled_from(("view", "revenue")), event_count=counts, amount=money(),
        ),
    )  # fmt: skip
    return st.one_of(
        spend,
        spend,
        spend,
        events,
        events,
        native(
            "partners", partner_id=st.sampled_from(PARTNERS[:2]),
            name=st.sampled_from(("One", "Other", None)),
        ),
        native(
            "campaigns", campaign_id=st.sampled_from(("c1", "c2")), partner_id=partner,
            objective=st.sampled_from(("awareness", None)),
        ),
        snapchat("ad_account_history", id=accounts, name=st.sampled_from(("One", "Other"))),
        snapchat("campaign_history", id=chains, ad_account_id=accounts),
        snapchat("ad_squad_history", id=chains, campaign_id=chains),
        snapchat("ad_history", id=chains, ad_squad_id=chains),
        snapchat(
            "ad_hourly_report", ad_id=chains,
            date=moments().map(lambda at: at[:10] + " " + at[11:19] + ".000"),
            spend=st.integers(0, 9_000_000), swipes=counts, impressions=counts,
            conversion_purchases=counts, conversion_purchases_value=money(),
            conversion_sign_ups=counts,
        ),
        snapshots(),
    )  # fmt: skip


MODELS = (
    "fact_spend",
    "fact_events",
    "fact_control_totals",
    "dim_campaign",
    "dim_partner",
    "daily_metrics",
    "weekly_partner_performance",
)
SELECTIONS = (
    MODELS,
    MODELS[:3],
    MODELS[:1],
    MODELS[1:2],
    MODELS[3:5],
    MODELS[5:6],
    MODELS[6:],
    MODELS[:6],
    (*MODELS[:5], MODELS[6]),
)
GATES = (
    *(
        f"select pg_advisory_xact_lock(hashtextextended('oversight:{model}', 0))"
        for model in MODELS
    ),
    *(
        f"lock table {'reporting' if model in MODELS[5:] else 'curated'}.{model} in share mode"
        for model in MODELS
    ),
    *(
        f"lock table metadata.{table} in share mode"
        for table in ("applied_batches", "changes", "touched_keys", "applied_changes")
    ),
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Some versions arrive, then some models are refreshed.

    With a gate, the refresh is stopped there (a lock that it has to wait for) and what arrives is
    committed meanwhile; `is_early` means that its transaction was open before the refresh started.
    """

    arrivals: int
    models: tuple[str, ...] = ()
    is_full: bool = False
    gate: str | None = None
    is_early: bool = False


@dataclass(frozen=True, kw_only=True)
class Story:
    """What there is, in which order it arrives (with repeats), and the steps."""

    history: tuple[Item, ...]
    order: tuple[int, ...]
    steps: tuple[Step, ...]


@st.composite
def stories(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Story:
    """Stories long enough that records change while they stand in the marts.

    Most of what is new arrives in its order, some late by up to eight places, some twice.
    """
    history = draw(st.lists(items(), min_size=14, max_size=24))
    places = list(range(len(history)))
    places += draw(st.lists(st.sampled_from(places), max_size=3))
    delays = draw(st.lists(st.sampled_from((0, 0, 2, 8)), min_size=27, max_size=27))
    order = sorted(range(len(places)), key=lambda index: places[index] + delays[index])
    step = st.builds(
        Step,
        arrivals=st.integers(2, 7),
        models=st.sampled_from((*[MODELS] * 8, *SELECTIONS)),
        is_full=st.sampled_from((*[False] * 9, True)),
        gate=st.one_of(st.none(), st.sampled_from(GATES)),
        is_early=st.booleans(),
    )
    return Story(
        history=tuple(history),
        order=tuple(places[index] for index in order),
        steps=tuple(draw(st.lists(step, min_size=3, max_size=5))),
    )
