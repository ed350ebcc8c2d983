"""Trying again where the database was away or busy, and nowhere else."""

import re

import psycopg2
from psycopg2 import errors
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from warehouse.errors import DatabaseUnreachableError

_BUSY = (
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.LockNotAvailable,
)
# SQLSTATE classes of a lost or refused connection: 08, and the server's shutting down or starting.
_AWAY = re.compile(r"^(08...|57P0[1-3])$")
# dbt gives the server's message only as text.
_TEXT = re.compile(
    r"could not serialize access|deadlock detected|due to lock timeout"
    r"|server closed the connection|connection (to server )?.*(failed|refused)|could not connect"
    r"|terminating connection due to (administrator command|unexpected postmaster exit)"
    r"|the database system is (starting up|shutting down|in recovery)|connection already closed"
    r"|connection not open|SSL connection has been closed|could not receive data from server",
    re.IGNORECASE,
)
# A login or a database that is not there stays away until a person mends it: SQLSTATE 28 and 3D.
# Only text says so when the connection never was made.
_REFUSED_CODE = re.compile(r"^(28|3D)")
_REFUSED = re.compile(
    r"authentication failed for user|no password supplied|no pg_hba\.conf entry"
    r"|pg_hba\.conf rejects connection|(database|role) \".*\" does not exist"
    r"|is not permitted to log in",
    re.IGNORECASE,
)


def is_transient(error: BaseException) -> bool:
    """Whether the same work may go well a moment later: connection, serialization or a lock."""
    if isinstance(error, DatabaseUnreachableError):
        return not (_is_refused(error) or _is_refused(error.__cause__))
    if isinstance(error, (psycopg2.InterfaceError, *_BUSY)):
        return True
    if not isinstance(error, psycopg2.OperationalError):
        return False
    # psycopg2 gives a connection that broke no code at all.
    return not _is_refused(error) if error.pgcode is None else bool(_AWAY.match(error.pgcode))


def is_transient_message(text: str) -> bool:
    """The same for the text of an error, which is all that dbt gives."""
    return bool(_TEXT.search(text)) and not _REFUSED.search(text)


def _is_refused(error: BaseException | None) -> bool:
    """Whether the server turned the login away, or has no such database."""
    code = getattr(error, "pgcode", None)
    return bool(_REFUSED_CODE.match(code) if code else _REFUSED.search(str(error)))


def retrying(*, seconds: float) -> Retrying:
    """Calls again after transient errors, with growing random waits, then raises the last one.

    Use: `retrying(seconds=60)(function, argument)`.
    """
    return Retrying(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        stop=stop_after_delay(seconds),
        reraise=True,
    )
