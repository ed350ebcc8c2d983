"""Connections, so that every part reaches the same database with the same guards."""

from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn, parse_dsn
from psycopg2.sql import SQL, Identifier

from warehouse import server
from warehouse.errors import DatabaseUnreachableError, OversightError
from warehouse.settings import Settings

CONNECT_TIMEOUT_SECONDS = 10
_KEEPALIVE: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    # Keepalives don't fire while sent data is unacknowledged; milliseconds.
    "tcp_user_timeout": 30_000,
}


def admin_dsn(settings: Settings) -> str:
    """What migrations, landing, dbt and LISTEN connect with; never through a pooler."""
    return settings.direct_database_url or settings.database_url or server.dsn(settings)


def api_dsn(settings: Settings) -> str:
    """What the API's pool connects with: a login that may only become a reader."""
    if settings.api_database_url:
        return settings.api_database_url
    return settings.database_url or server.dsn(settings, user="oversight_api")


def api_listen_dsn(settings: Settings) -> str:
    """What the API hears of changes with: its login without a pooler, which tells of none."""
    if settings.api_direct_database_url:
        return settings.api_direct_database_url
    if settings.api_database_url is None and settings.direct_database_url:
        return settings.direct_database_url
    return api_dsn(settings)


def connect(
    settings: Settings,
    *,
    role: str | None = None,
    autocommit: bool = False,
    application_name: str = "oversight",
) -> Connection:
    """Open a connection as the admin login, acting as `role` when one is named.

    Raises DatabaseUnreachableError when there is no server, OversightError when the login may
    not become the role. The caller closes it (psycopg2's `with` only ends the transaction).
    """
    dsn = admin_dsn(settings)
    try:
        connection: Connection = psycopg2.connect(
            dsn,
            application_name=application_name,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            **_KEEPALIVE,
        )
    except psycopg2.OperationalError as error:
        raise DatabaseUnreachableError(_unreachable(settings, dsn, error)) from error
    try:
        if role is not None:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(SQL("set role {}").format(Identifier(role)))
        connection.autocommit = autocommit
    except psycopg2.Error as error:
        connection.close()
        raise OversightError(
            f"the database login may not act as {role}: {str(error).strip()}; "
            "run `oversight db migrate` with the login that Oversight uses"
        ) from error
    return connection


def describe(dsn: str) -> str:
    """The address without its password, fit for messages and logs."""
    parts: dict[str, Any] = parse_dsn(dsn)
    kept = {key: parts[key] for key in ("host", "port", "dbname", "user") if key in parts}
    return str(make_dsn(**kept))


def _unreachable(settings: Settings, dsn: str, error: Exception) -> str:
    hint = (
        "start it with `oversight db start`"
        if settings.is_embedded
        else "check OVERSIGHT_DATABASE_URL and that the server accepts connections from here"
    )
    return f"can't reach the database ({describe(dsn)}): {str(error).strip()}; {hint}"
