"""The SQL of one read of a mart: rows, window, freshness and parity of one snapshot, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from psycopg2.sql import SQL, Composable, Identifier, Literal

from api.access.auth import Principal
from api.access.scope import LEDGER_SCOPES, arguments_of, condition, reading_as, shape_of, where
from api.database.pool import Row
from api.database.prepared import Argument, Call
from api.reporting import freshness
from api.reporting.deployed import ServedMart
from api.reporting.paging import Position
from api.reporting.parameters import DEFAULT_PAGE_SIZE, Request, Window
from warehouse.catalogue import Mart, MartColumn

SCHEMA = "reporting"
INSTANTS = ("timestamptz", "timestamp with time zone")

_BOUNDS = SQL("""times as ({times}),
bounds as (
    select coalesce({first}::date, w.last - {days_before}) as first, w.last
    from (select coalesce({last}::date, {through}, {today}) as last from times) as w
)""")
_READ = SQL("""
with {bounds},
page as materialized (
    select {columns}
    from {relation} as m
    {where}
    order by {order}
    limit {size} + 1
)
select
    (select coalesce(string_agg(row_to_json(r)::text, ','), '') from (
        select {shown} from page as p limit {size}
    ) as r),
    case when (select count(*) from page) > {size} then (
        select json_build_array({position})::text from page as p offset {size} - 1 limit 1
    ) end,
    bounds.first::text,
    bounds.last::text,
    json_build_object({freshness})::text
from times cross join bounds
""")


@dataclass(frozen=True, kw_only=True)
class Page:
    """One answered read; `rows` and `freshness` are JSON as PostgreSQL built it."""

    rows: str
    freshness: str
    window: tuple[str, str] | None
    next_position: Position | None


def message(
    served: ServedMart,
    request: Request,
    principal: Principal,
    position: Position | None,
    *,
    timeout_ms: int,
) -> Call:
    """The whole message of a read; `position` is where the page before ended."""
    scopes = sorted({*LEDGER_SCOPES, *served.mart.scope})
    window = _window(request, position)
    after = position.after if position else ()
    return Call(
        begin=reading_as(
            principal,
            scope_names=served.mart.scope,
            timeout_ms=timeout_ms,
            mart=served.mart.name,
        ),
        compose=lambda: _statement(served, request, principal, position),
        known=served.statements,
        shape=(
            tuple(column.name for column in request.columns),
            tuple(request.filters),
            shape_of(principal, scopes),
            (window.first is None, window.last is None),
            position and tuple(value is None for value in after),
        ),
        values={
            "first": window.first,
            "last": window.last,
            "size": request.page_size or DEFAULT_PAGE_SIZE,
            **arguments_of(principal, scopes),
            **{f"filter {name}": value for name, value in request.filters.items()},
            **{f"after {number}": value for number, value in enumerate(after)},
        },
    )


def _statement(
    served: ServedMart, request: Request, principal: Principal, position: Position | None
) -> Composable:
    mart = served.mart
    return _READ.format(
        **parts(served, request, principal, position),
        columns=SQL(", ").join(Identifier("m", name) for name in _needed(mart, request)),
        size=Argument("size", request.page_size or DEFAULT_PAGE_SIZE, "bigint"),
        shown=SQL(", ").join(shown(column, "p") for column in request.columns),
        position=SQL(", ").join(SQL("{}::text").format(Identifier("p", n)) for n in mart.grain),
    )


def parts(
    served: ServedMart, request: Request, principal: Principal, position: Position | None
) -> dict[str, Composable]:
    """What every read of a mart is made of, whatever it is answered as."""
    mart = served.mart
    window = _window(request, position)
    first, last = (
        Argument(key, value, "date")
        for key, value in (("first", window.first), ("last", window.last))
    )
    sla = Literal(mart.freshness_sla_seconds)
    is_bounded = mart.window is not None
    lower = first if window.first else SQL("(select b.first from bounds as b)")
    upper = last if window.last else SQL("(select b.last from bounds as b)")
    return {
        "bounds": _BOUNDS.format(
            times=freshness.times(principal, marts=served.fresh_as, sla=sla),
            first=first,
            last=last,
            days_before=Literal(mart.window.default_days - 1 if mart.window else 0),
            through=freshness.day_of(SQL("data_through"), served.reporting_timezone),
            today=freshness.day_of(SQL("now()"), served.reporting_timezone),
        ),
        "relation": Identifier(SCHEMA, mart.name),
        "where": where(
            [
                *_scope_conditions(served, principal),
                *_filter_conditions(served, request),
                _window_condition(served, lower, upper),
                _after(served, position) if position else None,
            ]
        ),
        "order": SQL(", ").join(Identifier("m", name) for name in mart.grain),
        "freshness": freshness.block(
            relation="times",
            sla=sla,
            parity_state=freshness.parity(
                principal,
                marts=served.fresh_as,
                first=lower if is_bounded else None,
                last=upper if is_bounded else None,
            ),
        ),
    }


def page_of(row: Row, served: ServedMart) -> Page:
    """The page that the message's one row holds."""
    rows, after, first, last, fresh = row
    window = (first, last) if served.mart.window is not None else None
    return Page(
        rows=rows,
        freshness=fresh,
        window=window,
        next_position=position_of(after, window),
    )


def position_of(place: str | None, window: tuple[str, str] | None) -> Position | None:
    """The position of a row, from its grain as a JSON array; None when there is no next page."""
    if place is None:
        return None
    first, last = map(date.fromisoformat, window) if window else (None, None)
    return Position(first=first, last=last, after=tuple(json.loads(place)))


def _window(request: Request, position: Position | None) -> Window:
    """The window of the first page, which those after it keep."""
    if position is None:
        return request.window
    return Window(first=position.first, last=position.last)


def _needed(mart: Mart, request: Request) -> list[str]:
    """The columns to read: those to show, and the grain, which gives the place of the next page."""
    return list(dict.fromkeys([*mart.grain, *(column.name for column in request.columns)]))


def _scope_conditions(served: ServedMart, principal: Principal) -> list[Composable | None]:
    return [
        condition(principal, name, Identifier("m", column))
        for name, column in sorted(served.mart.scope.items())
    ]


def _filter_conditions(served: ServedMart, request: Request) -> list[Composable]:
    return [
        SQL("{} = {}").format(
            Identifier("m", name),
            Argument(f"filter {name}", value, served.mart.column(name).data_type),
        )
        for name, value in request.filters.items()
    ]


def _window_condition(
    served: ServedMart, lower: Composable, upper: Composable
) -> Composable | None:
    window = served.mart.window
    if window is None:
        return None
    return SQL("{} between {} and {}").format(Identifier("m", window.column), lower, upper)


def _after(served: ServedMart, position: Position) -> Composable:
    """Rows after the position in the order of the grain.

    Where no part of the grain may be NULL it is a row comparison, which the unique index on the
    grain answers; else each part is compared with NULL as the last value, as `order by` has it.
    """
    columns = [served.mart.column(name) for name in served.mart.grain]
    if all(column.is_required for column in columns):
        return SQL("({}) > ({})").format(
            SQL(", ").join(Identifier("m", column.name) for column in columns),
            SQL(", ").join(
                _typed(number, value, column)
                for number, (value, column) in enumerate(zip(position.after, columns, strict=True))
            ),
        )
    return _after_part(columns, position.after)


def _after_part(
    columns: Sequence[MartColumn], values: Sequence[str | None], number: int = 0
) -> Composable:
    """The comparison from one part of the grain on."""
    if number == len(columns):
        return SQL("false")
    column, value = columns[number], values[number]
    name, rest = Identifier("m", column.name), _after_part(columns, values, number + 1)
    if value is None:
        return SQL("({column} is null and {rest})").format(column=name, rest=rest)
    return SQL(
        "({column} > {value} or {column} is null or ({column} = {value} and {rest}))"
    ).format(column=name, value=_typed(number, value, column), rest=rest)


def _typed(number: int, value: str | None, column: MartColumn) -> Composable:
    given = Argument(f"after {number}", value, column.data_type)
    return SQL("{}::{}").format(given, SQL(column.data_type))


def shown(column: MartColumn, alias: str) -> Composable:
    """A column of the relation called `alias`, as row_to_json is to see it."""
    identifier = Identifier(alias, column.name)
    if column.data_type in INSTANTS:
        return SQL("{} as {}").format(freshness.instant(identifier), Identifier(column.name))
    return identifier
