"""The pg_cron of the warehouse's server: where it is, what it holds of ours, how to change that."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn

from warehouse import database
from warehouse.errors import OversightError
from warehouse.settings import Settings

_NAME_BYTES = 63
_LABEL_BYTES = 24
_UTC = {"gmt", "utc", "uct", "zulu", "universal", "greenwich", "etc/utc", "etc/gmt"}


class PgCronError(OversightError):
    """pg_cron is not to be had here, or this login may not use it; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What pg_cron is to hold of one job."""

    cadence: str
    command: str
    database: str


@dataclass(frozen=True, kw_only=True)
class CronEntry:
    """A row of cron.job with how its last run ended; `is_own` when this login made it."""

    job_id: int
    name: str
    label: str
    """What its name says of its job."""
    held: Wanted
    user: str
    is_own: bool
    is_active: bool
    last_status: str | None
    last_run_at: datetime | None
    last_message: str | None


def entry_name(database_name: str, job: str) -> str:
    """`oversight <database> <job>`; cut, with a hash, where pg_cron would cut it without."""
    prefix = entry_prefix(database_name)
    return prefix + _label(job, _NAME_BYTES - len(prefix.encode()))


def entry_prefix(database_name: str) -> str:
    """How the names of all entries of one database begin, and no other's.

    A name that holds a space or a quote is quoted, so that `a b` does not begin as `a` does.
    """
    if " " not in database_name and '"' not in database_name:
        return f"oversight {_label(database_name, _LABEL_BYTES)} "
    escaped = database_name.replace('"', '""')
    return f'oversight "{_label(escaped, _LABEL_BYTES - 2)}" '


def _label(text: str, most: int) -> str:
    if len(text.encode()) <= most:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return text.encode()[: most - 9].decode(errors="ignore") + "-" + digest


class CronServer:
    """A connection to the database that holds pg_cron; leaving it without an error commits."""

    def __init__(self, settings: Settings, warehouse: Connection) -> None:
        self.warehouse = str(warehouse.info.dbname)
        self.prefix = entry_prefix(self.warehouse)
        self.database, self._connection = _find(settings, warehouse)

    def __enter__(self) -> CronServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._connection.commit()
        finally:
            self._connection.close()

    def zone_problem(self) -> str | None:
        """What is wrong with the zone of pg_cron's clock; older ones have no other than GMT."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("select current_setting('cron.timezone', true)")
                row = cursor.fetchone()
        except psycopg2.errors.InsufficientPrivilege:
            # A wrong one is told by the jobs themselves: they look whether their slot is declared.
            self._connection.rollback()
            return None
        zone = row[0] if row else None
        if zone is None or zone.lower() in _UTC:
            return None
        return (
            f"pg_cron keeps time in {zone} and cadences are in UTC; set cron.timezone = 'GMT' in "
            "postgresql.conf and restart the server"
        )

    def entries(self) -> list[CronEntry]:
        """All that is ours, this login's own first; a superuser sees those of every login."""
        with self._connection.cursor() as cursor:
            cursor.execute(
                """
                select j.jobid, j.jobname::text, j.schedule, j.command, j.database::text,
                    j.username::text, j.username = current_user, j.active,
                    d.status, d.start_time, d.return_message
                from cron.job as j
                left join lateral (
                    select status, start_time, return_message from cron.job_run_details
                    where jobid = j.jobid order by runid desc limit 1
                ) as d on true
                where starts_with(j.jobname::text, %s)
                order by j.username <> current_user, j.jobname, j.jobid
                """,
                (self.prefix,),
            )
            return [
                CronEntry(
                    job_id=row[0],
                    name=row[1],
                    label=row[1][len(self.prefix) :],
                    held=Wanted(cadence=row[2], command=row[3], database=row[4]),
                    user=row[5],
                    is_own=row[6],
                    is_active=row[7],
                    last_status=row[8],
                    last_run_at=row[9],
                    last_message=row[10],
                )
                for row in cursor.fetchall()
            ]

    def schedule(self, job: str, wanted: Wanted) -> None:
        """Add an entry for a job, run as this login."""
        arguments = [entry_name(self.warehouse, job), wanted.cadence, wanted.command]
        function = "cron.schedule(%s, %s, %s)"
        if wanted.database != self.database:
            function = "cron.schedule_in_database(%s, %s, %s, %s)"
            arguments.append(wanted.database)
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(f"select {function}", arguments)
        except psycopg2.errors.InsufficientPrivilege as error:
            raise PgCronError(
                f"login {self._connection.info.user} may not schedule in another database than "
                f"{self.database}: {_first_line(error)}; as superuser, in database "
                f"{self.database}: grant execute on function cron.schedule_in_database to "
                f'"{self._connection.info.user}"'
            ) from error
        except psycopg2.Error as error:
            raise PgCronError(
                f"pg_cron refuses {job} at {wanted.cadence!r}: {_first_line(error)}"
            ) from error

    def unschedule(self, entries: Iterable[CronEntry]) -> None:
        """Remove entries and what pg_cron noted of their runs."""
        with self._connection.cursor() as cursor:
            for entry in entries:
                cursor.execute("select cron.unschedule(%s)", (entry.job_id,))
                cursor.execute("delete from cron.job_run_details where jobid = %s", (entry.job_id,))


def _find(settings: Settings, warehouse: Connection) -> tuple[str, Connection]:
    """The database that holds the extension, and a connection to it that may use it."""
    own = str(warehouse.info.dbname)
    configured = own if _has_extension(warehouse) else _configured_database(warehouse)
    if not configured:
        raise PgCronError(_missing(settings, warehouse, configured))
    dsn = make_dsn(database.admin_dsn(settings), dbname=configured)
    there = dataclasses.replace(settings, database_url=dsn, direct_database_url=None)
    connection = database.connect(there, application_name="oversight pg-cron")
    try:
        if not _has_extension(connection):
            raise PgCronError(_missing(settings, warehouse, configured))
        with connection.cursor() as cursor:
            cursor.execute("select has_schema_privilege('cron', 'usage')")
            row = cursor.fetchone()
        if not (row and row[0]):
            raise PgCronError(
                f"login {connection.info.user} may not use pg_cron; as superuser, in database "
                f'{configured}: grant usage on schema cron to "{connection.info.user}"'
            )
    except BaseException:
        connection.close()
        raise
    return configured, connection


def _has_extension(connection: Connection) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("select exists (select from pg_extension where extname = 'pg_cron')")
        row = cursor.fetchone()
        return bool(row and row[0])


def _configured_database(warehouse: Connection) -> str | None:
    """Where pg_cron works; empty when it is not loaded, None when this login may not know."""
    try:
        with warehouse.cursor() as cursor:
            cursor.execute("select coalesce(current_setting('cron.database_name', true), '')")
            row = cursor.fetchone()
    except psycopg2.errors.InsufficientPrivilege:
        return None
    finally:
        warehouse.rollback()
    return str(row[0]) if row else None


def _missing(settings: Settings, warehouse: Connection, configured: str | None) -> str:
    """What has to be done so that there is a pg_cron, as far as it can be seen from here."""
    if settings.is_embedded:
        return (
            "the embedded server has no pg_cron; `oversight schedule` keeps time without it, or "
            "set OVERSIGHT_DATABASE_URL to a server that has it"
        )
    with warehouse.cursor() as cursor:
        cursor.execute(
            "select exists (select from pg_available_extensions where name = 'pg_cron'), "
            "current_setting('server_version_num')::integer / 10000"
        )
        row = cursor.fetchone()
    assert row is not None
    own, user = warehouse.info.dbname, warehouse.info.user
    steps = [] if row[0] else [f"install its package (Debian: postgresql-{row[1]}-cron)"]
    if not configured:
        steps.append(
            f"set shared_preload_libraries = 'pg_cron' and cron.database_name = '{own}' in "
            "postgresql.conf and restart the server"
        )
    name = configured or own
    steps.append(
        f"as superuser, in database {name}: create extension pg_cron; "
        f'grant usage on schema cron to "{user}"'
    )
    if configured is None:
        steps.append(
            "or, if it works in another database, which this login may not see: as superuser, in "
            f'database {own}: grant pg_read_all_settings to "{user}"'
        )
    return f"there is no pg_cron in database {name}; " + "; ".join(steps)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
