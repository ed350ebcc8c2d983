"""The commands around the API: serve, its description, and the keys of those who may call it."""

import os
import re
import sys
from datetime import datetime, timedelta, timezone

import click

from warehouse.errors import OversightError

_DURATION = re.compile(r"([1-9][0-9]{0,4})([dh])")


@click.command(epilog="\b\nExample:\n  OVERSIGHT_API_PORT=8081 oversight serve")
def serve() -> None:
    """Serve the API until Ctrl-C; the database and a deployed catalogue should be there."""
    # The runner never imports the API: this process becomes it, so that signals reach it.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "api.server"])


@click.command(
    epilog="\b\nExamples:\n  oversight openapi > api/openapi.json\n  oversight openapi --check"
)
@click.option("--check", is_flag=True, help="Say how api/openapi.json differs, if it does.")
def openapi(check: bool) -> None:
    """Print the OpenAPI description of what the project declares."""
    sys.stdout.flush()
    arguments = ["--check"] if check else []
    os.execv(sys.executable, [sys.executable, "-m", "api.openapi", *arguments])


@click.group()
def key() -> None:
    """The API keys: make, list, revoke."""


@key.command(
    epilog="\b\nExamples:\n  oversight key create dashboard --organization default --expires 90d\n"
    "  oversight key create ops --role operator --organization '*'"
)
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["reader", "agent", "operator", "admin"]),
    default="reader",
    show_default=True,
)
@click.option("--organization", "organizations", multiple=True, help="Repeatable; '*' means all.")
@click.option("--partner", "partners", multiple=True, help="Repeatable; without it, all.")
@click.option("--expires", metavar="DURATION", help="Such as 30d or 12h; without it, never.")
def create(
    name: str,
    role: str,
    organizations: tuple[str, ...],
    partners: tuple[str, ...],
    expires: str | None,
) -> None:
    """Make a key and print it, the only time that it is shown."""
    from warehouse.database import connect
    from warehouse.keys import create_key
    from warehouse.settings import load_settings

    scope = {"organization": list(organizations), "partner": list(partners) or ["*"]}
    expires_at = _expiry(expires) if expires else None
    connection = connect(load_settings(), autocommit=True)
    try:
        made = create_key(connection, name=name, role=role, scope=scope, expires_at=expires_at)
    finally:
        connection.close()
    click.echo(made)


@key.command(name="list", epilog="\b\nExample:\n  oversight key list")
def list_() -> None:
    """Show every key's name, role, scope and state; the keys themselves are not stored."""
    from warehouse.database import connect
    from warehouse.keys import list_keys
    from warehouse.settings import load_settings

    connection = connect(load_settings(), autocommit=True)
    try:
        records = list_keys(connection)
    finally:
        connection.close()
    for record in records:
        scope = " ".join(f"{name}={','.join(ids)}" for name, ids in sorted(record.scope.items()))
        used = (
            f"last used {record.last_used_at:%Y-%m-%d %H:%MZ}" if record.last_used_at else "unused"
        )
        click.echo(
            f"{record.name}  {record.role}  {scope}  {record.state(datetime.now(timezone.utc))}"
            f"  {used}"
        )
    if not records:
        click.echo("no keys; make one with `oversight key create NAME --organization default`")


@key.command(epilog="\b\nExample:\n  oversight key revoke dashboard")
@click.argument("name")
def revoke(name: str) -> None:
    """End a key for good; a running API honours it within 5 seconds."""
    from warehouse.database import connect
    from warehouse.keys import revoke_key
    from warehouse.settings import load_settings

    connection = connect(load_settings(), autocommit=True)
    try:
        revoke_key(connection, name)
    finally:
        connection.close()
    click.echo(f"revoked {name}")


def _expiry(duration: str) -> datetime:
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise OversightError(f"--expires {duration!r} is no duration; write 30d or 12h")
    number = int(match.group(1))
    lasts = timedelta(days=number) if match.group(2) == "d" else timedelta(hours=number)
    return datetime.now(timezone.utc) + lasts
