"""`oversight db restore`: a backup becomes the configured database, also on another server.

The file is read whole before anything changes, and everything happens in one transaction. Ledgers
go by batch number, so that the restored warehouse goes on refreshing as if nothing had happened.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier, Literal

from runner.upkeep.contents import table_names
from runner.upkeep.dump_file import Listing, check_file, read_manifest
from runner.upkeep.programs import BackupError, OnProgress, Watch, address, programs_for
from runner.upkeep.replay import look_at, replay
from warehouse import database, migrate
from warehouse.settings import Settings

_LEADING_SECONDS = 15
_SCHEMA_MIGRATIONS = "metadata._yoyo_migration"

log = structlog.get_logger("oversight.restore")


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What was restored; without a manifest beside the file nothing says how much it was."""

    tables: int | None
    rows: int | None
    instance_id: str
    is_same_instance: bool
    applied: tuple[str, ...]


def restore(
    settings: Settings,
    file: Path,
    *,
    may_replace: Callable[[str], bool],
    progress: OnProgress | None = None,
) -> Restored:
    """Make the configured database what the backup holds.

    `may_replace` is asked with the database's address when it holds landed data or keys; when it
    says no, BackupError. The file is checked first.
    """
    manifest = read_manifest(file)
    listing = check_file(file, manifest)
    connection = database.connect(settings, autocommit=True, application_name="oversight restore")
    try:
        _check_version(connection, file, listing)
        _check_leader(connection)
        programs = programs_for(connection, least=listing.program)
        with connection.cursor() as cursor:
            if _is_filled(cursor):
                where = database.describe(database.admin_dsn(settings))
                if not may_replace(where):
                    raise BackupError(
                        f"{where} holds data, and nothing was changed; give --yes to replace it"
                    )
            # Roles, the database's own grants and settings: a backup has none of them.
            migrate.migrate(settings)
            cursor.execute("select instance_id::text, project_dir from metadata.instance")
            (old_instance, project_dir) = cursor.fetchone() or ("", None)
            is_same = manifest is not None and manifest.instance_id == old_instance
            target = look_at(cursor, *address(settings))
            # A copy elsewhere is another warehouse: the first one may go on beside it.
            instance_id = old_instance if is_same else str(uuid.uuid4())
            finish = _corrections(cursor, instance_id, project_dir)
            replay(
                file,
                listing,
                manifest,
                target,
                programs,
                finish=finish,
                watch=Watch(progress=progress),
            )
            applied = migrate.migrate(settings)
            _analyze(cursor)
    finally:
        connection.close()
    log.info("restore", file=str(file), instance_id=instance_id, applied=applied)
    return Restored(
        tables=len(manifest.tables) if manifest else None,
        rows=manifest.rows if manifest else None,
        instance_id=instance_id,
        is_same_instance=is_same,
        applied=tuple(applied),
    )


def _check_version(connection: Connection, file: Path, listing: Listing) -> None:
    major = connection.server_version // 10000
    if listing.server > major:
        raise BackupError(
            f"{file} comes from PostgreSQL {listing.server} and this server is {major}: a backup "
            f"goes to the same version or a newer one; use a server of {listing.server} or newer"
        )


def _check_leader(connection: Connection) -> None:
    """A runner that leads would go on writing, and hold tables that are to be replaced."""
    with connection.cursor() as cursor:
        cursor.execute("select to_regclass('metadata.leadership') is not null")
        if cursor.fetchone() != (True,):
            return
        cursor.execute(
            "select runner, to_char(heartbeat_at at time zone 'UTC', 'HH24:MI:SS') "
            "from metadata.leadership where heartbeat_at > now() - make_interval(secs => %s)",
            (_LEADING_SECONDS,),
        )
        leader = cursor.fetchone()
    if leader is not None:
        raise BackupError(
            f"the runner {leader[0]} leads this warehouse (last sign at {leader[1]} UTC), and "
            f"nothing was changed; stop `oversight schedule` and `oversight up`, wait "
            f"{_LEADING_SECONDS} seconds, and restore again"
        )


def _is_filled(cursor: Cursor) -> bool:
    """Whether anything landed here or anyone has a key; migrations alone are nothing to lose."""
    cursor.execute(
        "select to_regclass('metadata.batches') is not null "
        "and to_regclass('metadata.principals') is not null"
    )
    if cursor.fetchone() != (True,):
        return bool(table_names(cursor))
    cursor.execute(
        "select exists (select from metadata.batches) or exists (select from metadata.principals)"
    )
    return cursor.fetchone() == (True,)


def _corrections(cursor: Cursor, instance_id: str, project_dir: str | None) -> list[str]:
    """What the moment of the backup held but is not so any more: runs, requests, leadership."""
    known = [path.name.removesuffix(".sql") for path in migrate.MIGRATIONS_DIR.glob("*.sql")]
    statements = [
        SQL(
            "do $$ declare unknown text := (select string_agg(migration_id, ', ') from {table} "
            "where migration_id <> all({known})); begin if unknown is not null then raise "
            "exception 'the backup was made by a newer Oversight (migrations %); install that', "
            "unknown; end if; end $$;"
        ).format(table=SQL(_SCHEMA_MIGRATIONS), known=Literal(known)),
        SQL(
            "update metadata.refresh_log set status = 'abandoned', "
            "finished_at = clock_timestamp(), "
            "error_message = 'it was running when the backup was taken' where status = 'running';"
        ),
        SQL(
            "update metadata.job_requests set status = 'pending', run_id = null "
            "where status = 'running';"
        ),
        # Here may be no pg_cron, or one that knows nothing of it; `oversight db pg-cron install`.
        SQL("update metadata.jobs set clock = 'runner' where clock <> 'runner';"),
        SQL(
            "update metadata.leadership set epoch = epoch + 1, runner = null, backend_pid = null, "
            "taken_at = null, heartbeat_at = null;"
        ),
        SQL(
            "update metadata.backups set error = 'it was running when the backup was taken' "
            "where proved_at is null and error is null;"
        ),
        SQL("update metadata.instance set instance_id = {}, project_dir = {};").format(
            Literal(instance_id), Literal(project_dir)
        ),
    ]
    return [statement.as_string(cursor) for statement in statements]


def _analyze(cursor: Cursor) -> None:
    """A restored table has no statistics, and the next refresh plans by them."""
    for schema, name in table_names(cursor):
        cursor.execute(SQL("analyze {}").format(Identifier(schema, name)))
