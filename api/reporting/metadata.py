"""GET /api/reporting/v1/metadata/refresh: latest runs, and how fresh each view is."""

from __future__ import annotations

from flask import Blueprint, Response, g, request
from psycopg2.sql import SQL, Composable, Literal

from api.access.auth import Principal, may
from api.access.scope import is_one_of, reading_as, where
from api.reporting import formats, freshness
from api.reporting.deployed import Served, ServedMart
from api.reporting.parameters import NO_PARAMETERS, load
from api.state import PREFIX, state

LATEST_RUNS = 50
RUNS = "refresh_log"
"""What a change of the log is heard as, beside the names of marts."""
blueprint = Blueprint("metadata", __name__, url_prefix=f"{PREFIX}/metadata")

_READ = SQL("""
select json_build_object(
    'views', {views},
    'runs', (select coalesce(json_agg(r), '[]') from (
        select
            l.run_id, l.job_name, {scheduled_for} as scheduled_for, {started_at} as started_at,
            {finished_at} as finished_at, l.status, {rows_affected} as rows_affected,
            {error_message} as error_message, {models} as models
        from metadata.refresh_log as l {where}
        order by l.started_at desc, l.run_id desc limit {limit}
    ) as r),
    'runs_limit', {limit}
)::text
""")
_ONLY = SQL("array(select m from unnest(l.models) as m where m = any({names}::text[]))")
_VIEW = SQL("""(
    select json_build_object('view', {name}, 'path', {path}, {block})
    from (
        select t.*, {last} as last_day from ({times}) as t
    ) as times
)""")


@blueprint.get("/refresh")
def refresh() -> Response:
    """Runs and freshness in one read."""
    load(NO_PARAMETERS, request.args)
    formats.chosen(request.headers.get("Accept"), (formats.JSON,))
    here = state()
    served = here.catalogue.current()
    refreshed = [mart.name for mart in served.catalogue.marts if mart.cadence is not None]
    g.exchange.keep(shows=[*refreshed, RUNS], zone=served.catalogue.reporting_timezone)
    message = _message(served, g.principal, timeout_ms=here.limits.statement_timeout_ms)
    row = here.pool.read(message)
    assert row is not None
    return Response(row[0], content_type=formats.JSON)


def _message(served: Served, principal: Principal, *, timeout_ms: int) -> Composable:
    """Counts, messages and other jobs speak of all organizations: only who sees all sees them."""
    sees_counts = principal.sees_all("organization")
    sees_errors = sees_counts and may(principal, "operate")
    readable = [item.mart.name for item in served.marts.values() if _may_read(principal, item)]
    read = _READ.format(
        views=_views(served, principal),
        scheduled_for=freshness.instant(SQL("l.scheduled_for")),
        started_at=freshness.instant(SQL("l.started_at")),
        finished_at=freshness.instant(SQL("l.finished_at")),
        rows_affected=SQL("l.rows_affected") if sees_counts else SQL("null::bigint"),
        error_message=SQL("l.error_message") if sees_errors else SQL("null::text"),
        models=SQL("l.models") if sees_counts else _ONLY.format(names=Literal(readable)),
        where=where([None if sees_counts else of_marts(readable)]),
        limit=Literal(LATEST_RUNS),
    )
    return SQL("").join([reading_as(principal, timeout_ms=timeout_ms), read])


def of_marts(names: list[str]) -> Composable:
    """Runs of other jobs are named after engines, which may be another organization's."""
    return SQL("({} or l.models && {}::text[])").format(
        is_one_of(SQL("l.job_name"), names), Literal(names)
    )


def _may_read(principal: Principal, item: ServedMart) -> bool:
    return principal.role in item.mart.readers


def _views(served: Served, principal: Principal) -> Composable:
    views = [view(item, principal) for item in served.marts.values() if _may_read(principal, item)]
    return SQL("json_build_array({})").format(SQL(", ").join(views))


def view(item: ServedMart, principal: Principal) -> Composable:
    """One view, its parity that of the window which a read without from and to answers."""
    mart = item.mart
    sla = Literal(mart.freshness_sla_seconds)
    first = last = None
    if mart.window is not None:
        last = SQL("times.last_day")
        first = SQL("times.last_day - {}").format(Literal(mart.window.default_days - 1))
    return _VIEW.format(
        name=Literal(mart.name),
        path=Literal(f"{PREFIX}/{mart.path}"),
        times=freshness.times(principal, marts=item.fresh_as, sla=sla),
        last=SQL("coalesce({}, {})").format(
            freshness.day_of(SQL("t.data_through"), item.reporting_timezone),
            freshness.day_of(SQL("now()"), item.reporting_timezone),
        ),
        block=freshness.block(
            relation="times",
            sla=sla,
            parity_state=freshness.parity(principal, marts=item.fresh_as, first=first, last=last),
        ),
    )
