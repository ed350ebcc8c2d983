"""How fresh and how well checked a mart is for one caller: the freshness block of every answer."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.sql import SQL, Composable, Identifier, Literal

from api.access.auth import Principal
from api.access.scope import condition, is_one_of, where

_TIMES = SQL("""
    select
        min(f.last_refresh_at) as last_refresh_at,
        min(f.data_through) as data_through,
        min(metadata.late_after(f.pending_since, f.held_since, f.stale_after, {sla})) as late_after
    from metadata.mart_freshness as f
    {where}
""")
# No verdict at all is `unchecked`; verdicts that are all ok outside the window leave it `ok`.
_PARITY = SQL("""
    case
        when exists (select from metadata.parity_verdicts as v {failed}) then 'failed'
        when exists (select from metadata.parity_verdicts as v {unchecked}) then 'unchecked'
        when exists (select from metadata.parity_verdicts as v {checked}) then 'ok'
        else 'unchecked'
    end
""")
_BLOCK = SQL("""
    'last_refresh_at', {last_refresh_at},
    'data_through', {data_through},
    'sla_seconds', {sla},
    'late_after', {late_after},
    'status', metadata.freshness_status({times}.last_refresh_at, {times}.late_after),
    'parity', {parity},
    'is_stale', false
""")


def instant(expression: Composable) -> Composable:
    """A timestamptz as RFC 3339 in UTC, whatever the session's zone and date style are."""
    return SQL("""to_char({} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""").format(
        expression
    )


def times(principal: Principal, *, marts: Sequence[str], sla: Composable) -> Composable:
    """A query of one row; of several organizations or marts each time is the least, true of all."""
    conditions = [is_one_of(SQL("f.model"), marts), _organization(principal, "f")]
    return _TIMES.format(sla=sla, where=where(conditions))


def parity(
    principal: Principal, *, marts: Sequence[str], first: Composable | None, last: Composable | None
) -> Composable:
    """Failed if any key in scope and window failed, else unchecked if any is, else ok.

    Totals (a NULL period) are of no window; metadata/parity shows them.
    """
    checked = [
        is_one_of(SQL("v.mart"), marts),
        _organization(principal, "v"),
        condition(principal, "partner", Identifier("v", "partner_id")),
    ]
    in_window = list(checked)
    if first is not None and last is not None:
        in_window.append(SQL("v.period between {} and {}").format(first, last))
    return _PARITY.format(
        failed=where([*in_window, SQL("v.verdict <> 'ok' and v.verdict = 'failed'")]),
        unchecked=where([*in_window, SQL("v.verdict <> 'ok' and v.verdict = 'unchecked'")]),
        checked=where(checked),
    )


def block(*, relation: str, sla: Composable, parity_state: Composable) -> Composable:
    """The members of a freshness block, for json_build_object, from a relation of `times`."""
    return _BLOCK.format(
        times=Identifier(relation),
        sla=sla,
        parity=parity_state,
        **{
            name: instant(Identifier(relation, name))
            for name in ("last_refresh_at", "data_through", "late_after")
        },
    )


def day_of(moment: Composable, zone: str) -> Composable:
    """The calendar day of a timestamptz in the reporting zone."""
    return SQL("({} at time zone {})::date").format(moment, Literal(zone))


def _organization(principal: Principal, alias: str) -> Composable | None:
    return condition(principal, "organization", Identifier(alias, "organization_id"))
