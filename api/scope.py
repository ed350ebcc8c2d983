"""The start of every read: read-only, as the reader role, with the caller's scope in settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg2.sql import SQL, Composable, Identifier, Literal

from api.auth import Principal

READER_ROLE = "oversight_reader"
_LEDGER_SCOPES = ("organization", "partner")

_BEGIN = SQL("""
set transaction read only;
set local role {role};
set local statement_timeout = {milliseconds};
select {settings};
""")


def reading_as(
    principal: Principal, *, scope_names: Iterable[str] = (), timeout_ms: int
) -> Composable:
    """The statements before a read; the ledgers' policies need organization and partner always."""
    names = sorted({*_LEDGER_SCOPES, *scope_names})
    return _BEGIN.format(
        role=Identifier(READER_ROLE),
        milliseconds=Literal(timeout_ms),
        settings=SQL(", ").join(
            SQL("set_config({}, {}, true)").format(
                Literal(f"oversight.scope_{name}"), Literal(setting(principal, name))
            )
            for name in names
        ),
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
    return is_one_of(column, ids)


def is_one_of(column: Composable, values: Sequence[str]) -> Composable:
    """A comparison with one or several texts; equality lets an index give the order too."""
    if len(values) == 1:
        return SQL("{} = {}").format(column, Literal(values[0]))
    return SQL("{} = any({}::text[])").format(column, Literal(list(values)))


def where(conditions: Iterable[Composable | None]) -> Composable:
    """A where clause of the conditions that there are."""
    present = [item for item in conditions if item is not None]
    return SQL("where ") + SQL(" and ").join(present) if present else SQL("")
