"""`oversight db backup`: a dump of one snapshot, proved by restoring it and comparing every table.

The four schemas are dumped by the admin login, which owns them (or is a member of the roles that
do) and so sees every row. The proof goes into a database of its own on the same server; one that
a killed backup left is dropped by the next.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import psycopg2
import structlog
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier, Literal

from runner.upkeep.contents import Contents, set_session, table_content, table_names
from runner.upkeep.dump_file import Manifest, check_file, read_manifest, sha256_of, write_manifest
from runner.upkeep.kept import instance_mark, private_folder, rotate
from runner.upkeep.programs import (
    BackupError,
    CheckedRun,
    Child,
    OnProgress,
    Watch,
    address,
    programs_for,
)
from runner.upkeep.replay import look_at, replay
from warehouse import database
from warehouse.settings import Settings

_LOCK = "select pg_try_advisory_lock(hashtextextended('oversight backup', 0))"
_LOCK_TIMEOUT = "60s"
_ATTEMPTS = 10
_SWAP_SECONDS = 0.5

log = structlog.get_logger("oversight.backup")


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A backup that was proved."""

    file: Path
    bytes: int
    sha256: str
    tables: int
    rows: int


def backup_dir(settings: Settings) -> Path:
    """Where backups lie."""
    return settings.home / "backups"


def back_up(
    settings: Settings, run: CheckedRun | None = None, progress: OnProgress | None = None
) -> Backup:
    """Dump, prove, and keep the newest seven; BackupError when any of it fails.

    A file that could not be proved stays until there is a newer one; a partial one never does.
    """
    watch = Watch(run=run, progress=progress)
    try:
        folder = private_folder(backup_dir(settings))
    except OSError as error:
        raise BackupError(
            f"no backup was taken: can't write to {backup_dir(settings)} ({error}); make it a "
            "folder of the user that runs Oversight, or set OVERSIGHT_HOME to another"
        ) from error
    connection = database.connect(settings, autocommit=True, application_name="oversight backup")
    try:
        with connection.cursor() as cursor:
            cursor.execute(_LOCK)
            if cursor.fetchone() != (True,):
                raise BackupError("another backup of this database is running; wait for it")
            proof, mark = _proof_name(cursor), instance_mark(cursor)
            _clear_leftovers(cursor, folder, proof, mark)
            taken_at = datetime.now(timezone.utc)
            file = folder / f"oversight-{mark}-{taken_at:%Y%m%dT%H%M%S%fZ}.dump"
            backup_id = _open(cursor, file)
            try:
                done = _take_and_prove(settings, connection, file, taken_at, proof, watch)
            except BaseException as error:
                _close(cursor, backup_id, error=str(error) or "it was interrupted")
                log.error("backup", file=str(file), error=str(error))
                rotate(folder, mark)
                raise
            _close(cursor, backup_id, done=done)
            rotate(folder, mark)
    finally:
        connection.close()
    if run is not None:
        run.rows_affected = done.rows
    log.info("backup", file=str(done.file), bytes=done.bytes, rows=done.rows, tables=done.tables)
    return done


def _take_and_prove(
    settings: Settings,
    connection: Connection,
    file: Path,
    taken_at: datetime,
    proof: str,
    watch: Watch,
) -> Backup:
    _check_login(connection)
    programs = programs_for(connection)
    partial = file.with_name(f"{file.name}.partial")
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT, 0o600))
        with _snapshot(settings) as (cursor, snapshot):
            dsn, environment = address(settings)
            command = [
                *(programs.path("pg_dump"), "--format=custom", f"--snapshot={snapshot}"),
                *("--no-password", f"--lock-wait-timeout={_LOCK_TIMEOUT}"),
                *("--schema=staging", "--schema=curated", "--schema=reporting"),
                *("--schema=metadata", "--file", str(partial), "--dbname", dsn),
            ]
            child = Child(command, environment)
            try:
                contents = _contents(cursor, watch)
                cursor.execute("select instance_id::text from metadata.instance")
                (instance_id,) = cursor.fetchone() or ("",)
                if child.wait(watch) != 0:
                    raise BackupError(
                        f"no backup was taken: {child.complaint()}; see that {file.parent} has "
                        "room, then run `oversight db backup` again"
                    )
            finally:
                child.end()
        manifest = Manifest(
            sha256=sha256_of(partial),
            bytes=partial.stat().st_size,
            taken_at=taken_at.isoformat(),
            instance_id=instance_id,
            tables=contents,
        )
        partial.rename(file)
        write_manifest(file, manifest)
    except OSError as error:
        raise BackupError(
            f"no backup was taken: can't write to {file.parent}: {error}; make room there"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    _prove(settings, connection, file, proof, watch)
    write_manifest(
        file, dataclasses.replace(manifest, proved_at=datetime.now(timezone.utc).isoformat())
    )
    return Backup(
        file=file,
        bytes=manifest.bytes,
        sha256=manifest.sha256,
        tables=len(manifest.tables),
        rows=manifest.rows,
    )


@contextmanager
def _snapshot(settings: Settings) -> Iterator[tuple[Cursor, str]]:
    """A transaction whose snapshot pg_dump shares, with all tables locked against being swapped.

    The locks come first: a table that dbt swaps between snapshot and lock would be lost.
    """
    connection = database.connect(settings, application_name="oversight backup")
    try:
        with connection.cursor() as cursor:
            set_session(cursor)
            connection.commit()
            for _ in range(_ATTEMPTS):
                names = table_names(cursor)
                connection.commit()
                with suppress(psycopg2.errors.UndefinedTable):
                    _lock(cursor, names)
                    # A swap that committed meanwhile leaves its old table for a moment.
                    if table_names(cursor) == names:
                        break
                connection.rollback()
                time.sleep(_SWAP_SECONDS)
            else:
                raise BackupError(
                    "no backup was taken: tables are being made or dropped all the time; run "
                    "`oversight db backup` when no full refresh is under way"
                )
            cursor.execute("select pg_export_snapshot()")
            (snapshot,) = cursor.fetchone() or ("",)
            yield cursor, str(snapshot)
    except psycopg2.Error as error:
        raise BackupError(
            f"no backup was taken: {str(error).strip()}; run `oversight db backup` again"
        ) from error
    finally:
        connection.close()


def _lock(cursor: Cursor, names: list[tuple[str, str]]) -> None:
    """One transaction at one snapshot, which PostgreSQL takes after the locks."""
    tables = SQL(", ").join(Identifier(schema, name) for schema, name in names)
    cursor.execute(
        SQL(
            "set transaction isolation level repeatable read; set local lock_timeout = {}; "
            "lock table {} in access share mode"
        ).format(Literal(_LOCK_TIMEOUT), tables)
    )


def _contents(cursor: Cursor, watch: Watch) -> Contents:
    found: Contents = {}
    names = table_names(cursor)
    for number, (schema, name) in enumerate(names):
        watch.check()
        watch.show("reading", number, len(names))
        found[f"{schema}.{name}"] = table_content(cursor, schema, name)
    return found


def _prove(
    settings: Settings, connection: Connection, file: Path, proof: str, watch: Watch
) -> None:
    """Restore into a database of its own and compare every table there; the database goes."""
    manifest = read_manifest(file)
    listing = check_file(file, manifest)
    with connection.cursor() as cursor:
        try:
            cursor.execute(SQL("create database {} template template0").format(Identifier(proof)))
            target = look_at(cursor, *address(settings, proof))
            replay(file, listing, manifest, target, programs_for(connection), watch=watch)
        except (BackupError, psycopg2.Error) as error:
            raise BackupError(
                f"the backup {file} was taken but is not proved: {str(error).strip()}"
            ) from error
        finally:
            _drop(cursor, proof)


def _check_login(connection: Connection) -> None:
    """Say before the dump what would only show in the proof."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select rolname, rolcreatedb or rolsuper from pg_roles where rolname = current_user"
        )
        name, may_create = cursor.fetchone() or ("", False)
    if not may_create:
        raise BackupError(
            f"no backup was taken: the login {name} may not create the database in which a backup "
            f'is proved; have an administrator run `alter role "{name}" createdb`, then run '
            "`oversight db backup` again"
        )


def _proof_name(cursor: Cursor) -> str:
    """The same for every backup of this database, so that a leftover is found."""
    cursor.execute("select oid from pg_database where datname = current_database()")
    (oid,) = cursor.fetchone() or ("",)
    return f"oversight_proof_{oid}"


def _drop(cursor: Cursor, proof: str) -> None:
    cursor.execute(SQL("drop database if exists {} with (force)").format(Identifier(proof)))


def _clear_leftovers(cursor: Cursor, folder: Path, proof: str, mark: str) -> None:
    """What a killed backup left: its database, its partial files, its open row."""
    cursor.execute("select from pg_database where datname = %s", (proof,))
    if cursor.fetchone() is not None:
        log.warning("dropping what a killed backup left", database=proof)
        _drop(cursor, proof)
    for path in folder.glob(f"oversight-{mark}-*.partial"):
        path.unlink(missing_ok=True)
    cursor.execute(
        "update metadata.backups set error = 'it was interrupted' "
        "where proved_at is null and error is null"
    )


def _open(cursor: Cursor, file: Path) -> int:
    cursor.execute(
        "insert into metadata.backups (file) values (%s) returning backup_id", (file.name,)
    )
    (backup_id,) = cursor.fetchone() or (0,)
    return int(backup_id)


def _close(
    cursor: Cursor, backup_id: int, *, done: Backup | None = None, error: str | None = None
) -> None:
    held = (done.bytes, done.sha256, done.tables, done.rows) if done else (None,) * 4
    cursor.execute(
        "update metadata.backups set error = %s, bytes = %s, sha256 = %s, tables = %s, rows = %s, "
        "proved_at = case when %s::text is null then clock_timestamp() end where backup_id = %s",
        (error, *held, error, backup_id),
    )
