"""`oversight key`: the keys of those who may call the API."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, TypeVar

import click

from runner.commands.output import json_option, print_json
from warehouse.errors import OversightError

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from warehouse.keys import KeyRecord

T = TypeVar("T")
_DURATION = re.compile(r"([1-9][0-9]{0,4})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_expires = click.option("--expires", metavar="DURATION", help="Such as 30d or 12h.")


@click.group()
def key() -> None:
    """The API keys: make, list, replace, revoke."""


@key.command(
    epilog="\b\nExamples:\n  oversight key create dashboard --organization default --expires 90d\n"
    "  oversight key create ops --role operator --organization '*' --tier enterprise"
)
@click.argument("name")
@click.option("--role", default="reader", show_default=True, help="One of seeds/roles.csv.")
@click.option(
    "--tier",
    type=click.Choice(["standard", "enterprise"]),
    default="standard",
    show_default=True,
    help="How much it may ask, see OVERSIGHT_RATE_LIMITS.",
)
@click.option("--organization", "organizations", multiple=True, help="Repeatable; '*' means all.")
@click.option("--partner", "partners", multiple=True, help="Repeatable; without it, all.")
@_expires
@json_option
def create(
    name: str,
    role: str,
    tier: str,
    organizations: tuple[str, ...],
    partners: tuple[str, ...],
    expires: str | None,
    as_json: bool,
) -> None:
    """Make a key and print it, the only time that it is shown."""
    from warehouse.keys import create_key, unknown_organizations

    scope = {"organization": list(organizations), "partner": list(partners) or ["*"]}
    expires_at = _from_now("--expires", expires) if expires else None
    made = _connected(
        lambda connection: create_key(
            connection, name=name, role=role, scope=scope, expires_at=expires_at, tier=tier
        )
    )
    for unknown in _connected(lambda connection: unknown_organizations(connection, organizations)):
        click.echo(
            f"warning: nothing has landed of an organization {unknown!r} and no source declares it;"
            " until some does, the key sees nothing of it",
            err=True,
        )
    _show(made, name, as_json)


@key.command(
    epilog="\b\nExamples:\n  oversight key rotate dashboard --overlap 1h\n"
    "  oversight key rotate ci --expires 90d"
)
@click.argument("name")
@click.option("--overlap", metavar="DURATION", help="How long the old key works too, such as 1h.")
@_expires
@json_option
def rotate(name: str, overlap: str | None, expires: str | None, as_json: bool) -> None:
    """Replace a key by a new one of the same name, role, scope and tier, and print it.

    Without --overlap the old key ends at once, within 5 seconds in a running API; without --expires
    the expiry stays.
    """
    from warehouse.keys import rotate_key

    both = _duration("--overlap", overlap) if overlap else timedelta()
    expires_at = _from_now("--expires", expires) if expires else None
    made = _connected(
        lambda connection: rotate_key(connection, name, overlap=both, expires_at=expires_at)
    )
    _show(made, name, as_json)


@key.command(name="list", epilog="\b\nExample:\n  oversight key list --json")
@json_option
def list_(as_json: bool) -> None:
    """Show every key's name, role, tier, scope and state; the keys themselves are not stored."""
    from warehouse.keys import list_keys

    records = _connected(list_keys)
    if as_json:
        print_json({"keys": records})
        return
    for record in records:
        click.echo(_line(record))
    if not records:
        click.echo("no keys; make one with `oversight key create NAME --organization default`")


@key.command(
    epilog="\b\nExamples:\n  oversight key revoke dashboard\n"
    "  oversight key revoke --session 8f3c0d5e"
)
@click.argument("name", required=False)
@click.option("--session", metavar="JTI", help="End this session instead; its token names it.")
def revoke(name: str | None, session: str | None) -> None:
    """End a key, or a session, for good; a running API honours it within 5 seconds."""
    from warehouse.keys import revoke_key, revoke_session

    if (name is None) == (session is None):
        raise OversightError("give the name of a key or --session JTI, and not both")
    if session is not None:
        jti = session
        _connected(lambda connection: revoke_session(connection, jti))
        click.echo(f"revoked session {jti}")
    elif name is not None:
        of = name
        _connected(lambda connection: revoke_key(connection, of))
        click.echo(f"revoked {of}")


def _connected(do: Callable[[Connection], T]) -> T:
    from warehouse.database import connect
    from warehouse.settings import load_settings

    connection = connect(load_settings())
    try:
        done = do(connection)
        connection.commit()
        return done
    finally:
        connection.close()


def _show(made: str, name: str, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "key": made})
    else:
        click.echo(made)


def _line(record: KeyRecord) -> str:
    from warehouse.keys import moment

    scope = " ".join(f"{name}={','.join(ids)}" for name, ids in sorted(record.scope.items()))
    used = f"last used {moment(record.last_used_at)}" if record.last_used_at else "unused"
    parts = [record.name, record.role, record.tier, scope]
    parts.append(record.state(datetime.now(timezone.utc)))
    if record.old_key_until and not record.revoked_at:
        parts.append(f"old key until {moment(record.old_key_until)}")
    return "  ".join([*parts, used])


def _from_now(option: str, text: str) -> datetime:
    return datetime.now(timezone.utc) + _duration(option, text)


def _duration(option: str, text: str) -> timedelta:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise OversightError(f"{option} {text!r} is no duration; write 30d, 12h or 30m")
    return timedelta(**{_UNITS[match.group(2)]: int(match.group(1))})
