"""The start of every read: read-only, as the reader role, with the caller's scope in settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from psycopg2.sql import SQL, Composable, Identifier, Literal

from api.access.auth import Principal
from api.database.prepared import Argument, Fixed

READER_ROLE = "oversight_reader"
LEDGER_SCOPES = ("organization", "partner")

_BEGIN = SQL("""
set transaction read only;
set local role {role};
set local statement_timeout = {milliseconds};
{hold}select {settings};
""")
# What has its snapshot before it waits for a swap of a table (EXECUTE, or anything of a repeatable
# read) sees no row of the new one: so the wait comes first.
_HOLD = SQL("lock table {} in access share mode;\n")


def reading_as(
    principal: Principal, *, scope_names: Iterable[str] = (), timeout_ms: int, mart: str = ""
) -> Composable:
    """The statements before a read; the ledgers' policies need organization and partner always.

    A `mart` is held from then on, so that no full refresh swaps it under the read.
    """
    names = sorted({*LEDGER_SCOPES, *scope_names})
    settings = tuple((name, setting(principal, name)) for name in names)
    return _beginning(settings, timeout_ms, mart)


@lru_cache(maxsize=1000)
def _beginning(settings: tuple[tuple[str, str], ...], timeout_ms: int, mart: str) -> Composable:
    return Fixed(
        _BEGIN.format(
            role=Identifier(READER_ROLE),
            milliseconds=Literal(timeout_ms),
            hold=_HOLD.format(Identifier("reporting", mart)) if mart else SQL(""),
            settings=SQL(", ").join(
                SQL("set_config({}, {}, true)").format(
                    Literal(f"oversight.scope_{name}"), Literal(ids)
                )
                for name, ids in settings
            ),
        )
    )


def setting(principal: Principal, scope_name: str) -> str:
    """One scope as the policies compare it: {a,b}, {*} for all, {} for nothing."""
    if principal.sees_all(scope_name):
        return "{*}"
    return "{" + ",".join(principal.ids(scope_name)) + "}"


def condition(principal: Principal, scope_name: str, column: Composable) -> Composable | None:
    """The scope said again as a plain condition, since a policy's `or` keeps indexes from use.

    None when everything may be seen.
    """
    if principal.sees_all(scope_name):
        return None
    ids = principal.ids(scope_name)
    if not ids:
        return SQL("false")
    return is_one_of(column, ids, key=f"scope {scope_name}")


def is_one_of(column: Composable, values: Sequence[str], *, key: str = "") -> Composable:
    """A comparison with one or several texts; equality lets an index give the order too.

    With a `key` they are an argument, else a part of the statement.
    """
    value = values[0] if len(values) == 1 else list(values)
    data_type = "text" if len(values) == 1 else "text[]"
    given = Argument(key, value, data_type) if key else Literal(value)
    form = "{} = {}" if len(values) == 1 else "{} = any({}::text[])"
    return SQL(form).format(column, given)


def shape_of(principal: Principal, names: Iterable[str]) -> tuple[int, ...]:
    """What decides the text of the conditions: all (-1), none, one or several ids of each scope."""
    return tuple(
        -1 if principal.sees_all(name) else min(len(principal.ids(name)), 2) for name in names
    )


def arguments_of(principal: Principal, names: Iterable[str]) -> dict[str, Any]:
    """The values of the arguments that the conditions have."""
    given = {f"scope {name}": principal.ids(name) for name in names}
    return {key: ids[0] if len(ids) == 1 else list(ids) for key, ids in given.items()}


def where(conditions: Iterable[Composable | None]) -> Composable:
    """A where clause of the conditions that there are."""
    present = [item for item in conditions if item is not None]
    return SQL("where ") + SQL(" and ").join(present) if present else SQL("")
