"""Migrations of what dbt does not own: plain SQL files, each with its way back, run by yoyo.

Every migration and the note that it is applied are one transaction, so that a killed process
leaves either both or none; yoyo alone commits them apart. Its lock is replaced by an advisory
lock on the migrating connection, which PostgreSQL drops with it: no lock outlives its owner.
"""

import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psycopg2
import structlog
from psycopg2.extensions import connection as Connection
from psycopg2.sql import SQL, Identifier
from yoyo import read_migrations
from yoyo.backends.core.postgresql import PostgresqlBackend
from yoyo.migrations import Migration, MigrationList

from warehouse.database import connect
from warehouse.errors import MigrationError
from warehouse.settings import Settings

MIGRATIONS_DIR = Path(__file__).parent / "migrations"
SCHEMA = "metadata"
_ADVISORY_LOCK = 0x6F766572  # "over"
_LOCK_TIMEOUT = "60s"
_YOYO_TABLES = ("_yoyo_migration", "_yoyo_log", "_yoyo_version")
# Guards for every session of this database: orphaned queries end within a second or so, and days
# and weeks never depend on the server's own zone.
_DATABASE_SETTINGS = {"client_connection_check_interval": "1s", "timezone": "UTC"}

log = structlog.get_logger(__name__)


class _Backend(PostgresqlBackend):  # type: ignore[misc]
    """yoyo on one given connection; applying and noting are one transaction."""

    schema = SCHEMA

    def __init__(self, connection: Connection) -> None:
        self._given = connection
        super().__init__(None, _YOYO_TABLES[0])

    def connect(self, dburi: None) -> Connection:
        return self._given

    def list_tables(self, **kwargs: Any) -> list[str]:
        cursor = self.execute(
            "select table_name from information_schema.tables where table_schema = :schema",
            {"schema": SCHEMA},
        )
        return [name for (name,) in cursor.fetchall()]

    @contextmanager
    def lock(self, timeout: float = 0) -> Iterator[None]:
        """The advisory lock is held already by whoever uses this class."""
        yield

    def apply_one(self, migration: Migration, force: bool = False, mark: bool = True) -> None:
        with self.transaction():
            migration.process_steps(self, "apply", force=force)
            self.log_migration(migration, "apply")
            self.mark_one(migration, log=False)
        log.info("migration applied", migration=migration.id)

    def rollback_one(self, migration: Migration, force: bool = False) -> None:
        with self.transaction():
            migration.process_steps(self, "rollback", force=force)
            self.log_migration(migration, "rollback")
            self.unmark_one(migration, log=False)
        log.info("migration rolled back", migration=migration.id)

    def get_log_data(
        self, migration: Migration | None = None, operation: str = "apply"
    ) -> dict[str, Any]:
        """Without a look-up of the network name, which takes seconds where there is no resolver."""
        return {
            "id": str(uuid.uuid4()),
            "migration_id": migration.id if migration else None,
            "migration_hash": migration.hash if migration else None,
            "username": self.connection.info.user,
            "hostname": socket.gethostname(),
            "created_at_utc": datetime.now(timezone.utc).replace(tzinfo=None),
            "operation": operation,
        }


def migrate(settings: Settings, directory: Path = MIGRATIONS_DIR) -> list[str]:
    """Apply what is not yet applied, in order; gives back the names of what was applied."""
    with _backend(settings) as backend:
        pending = backend.to_apply(_read(directory))
        _run(backend.apply_migrations_only, pending)
        _set_database_settings(backend.connection)
        if settings.is_embedded:
            _note_project(backend.connection, settings.project_dir)
        return [migration.id for migration in pending]


def rollback(
    settings: Settings, to: str | None = None, directory: Path = MIGRATIONS_DIR
) -> list[str]:
    """Undo applied migrations, newest first, down to but not including `to`; None undoes all.

    Everything that those migrations made goes, landed data too.
    """
    with _backend(settings) as backend:
        applied = backend.to_rollback(_read(directory))
        names = [migration.id for migration in applied]
        if to is not None:
            matching = [name for name in names if name == to or name.split(".")[0] == to]
            if not matching:
                raise MigrationError(
                    f"{to} is not an applied migration; applied are: {', '.join(names) or 'none'}"
                )
            names = names[: names.index(matching[0])]
        chosen = applied.filter(lambda migration: migration.id in names)
        _run(backend.rollback_migrations, chosen)
        return names


def pending(settings: Settings, directory: Path = MIGRATIONS_DIR) -> list[str]:
    """Names of migrations not yet applied."""
    with _backend(settings) as backend:
        return [migration.id for migration in backend.to_apply(_read(directory))]


def _read(directory: Path) -> MigrationList:
    found = read_migrations(str(directory))
    if not found:
        raise MigrationError(f"there are no migrations in {directory}; is the checkout whole?")
    return found


def _run(action: Callable[[MigrationList], None], migrations: MigrationList) -> None:
    try:
        action(migrations)
    except psycopg2.Error as error:
        raise MigrationError(
            f"a migration failed and changed nothing: {str(error).strip()}; "
            "those before it stay applied; put the cause right and run it again"
        ) from error


@contextmanager
def _backend(settings: Settings) -> Iterator[_Backend]:
    """yoyo on a connection that holds the advisory lock, with its tables in `metadata`."""
    connection = connect(settings, autocommit=True, application_name="oversight migrate")
    try:
        _take_lock(connection)
        with connection.cursor() as cursor:
            cursor.execute("set client_min_messages = warning")
            # `if not exists` alone asks for the right to create even where there is nothing to do.
            cursor.execute("select from pg_namespace where nspname = %s", (SCHEMA,))
            if cursor.fetchone() is None:
                cursor.execute(SQL("create schema {}").format(Identifier(SCHEMA)))
        backend = _Backend(connection)
        backend.ensure_internal_schema_updated()
        _close_to_others(connection)
        yield backend
    except psycopg2.Error as error:
        raise MigrationError(
            f"migrations can't start: {str(error).strip()}; the database login needs CREATE on "
            "the database, CREATEROLE, and to own what earlier migrations made"
        ) from error
    finally:
        connection.close()


def _take_lock(connection: Connection) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("select set_config('lock_timeout', %s, false)", (_LOCK_TIMEOUT,))
            cursor.execute("select pg_advisory_lock(%s)", (_ADVISORY_LOCK,))
    except psycopg2.errors.LockNotAvailable as error:
        raise MigrationError(
            f"another process has been migrating this database for {_LOCK_TIMEOUT}; "
            "wait for it and run this again"
        ) from error


def _close_to_others(connection: Connection) -> None:
    """Row-level security on yoyo's own tables too; only their owner gets past it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace "
            "where n.nspname = %s and c.relname = any(%s) and not c.relrowsecurity",
            (SCHEMA, list(_YOYO_TABLES)),
        )
        for (name,) in cursor.fetchall():
            table = Identifier(SCHEMA, name)
            cursor.execute(
                SQL(
                    "alter table {0} enable row level security; "
                    "create policy nobody on {0} using (false)"
                ).format(table)
            )


def _note_project(connection: Connection, project_dir: Path) -> None:
    """Say whose the embedded server is; dbt refuses to write to another checkout's."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update metadata.instance set project_dir = %(here)s "
            "where project_dir is distinct from %(here)s",
            {"here": str(project_dir.resolve())},
        )


def _set_database_settings(connection: Connection) -> None:
    with connection.cursor() as cursor:
        for name, value in _DATABASE_SETTINGS.items():
            try:
                cursor.execute(
                    SQL("alter database {} set {} = %s").format(
                        Identifier(connection.info.dbname), Identifier(name)
                    ),
                    (value,),
                )
            except psycopg2.errors.InsufficientPrivilege:
                log.warning("only the database's owner can set this", setting=name, value=value)
