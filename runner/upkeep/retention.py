"""`oversight retire`: what is declared to go is exported, verified, and only then deleted.

Each table goes in one transaction through metadata.retire_rows(), which deletes exactly the rows
of an export or raises. A run that died between the two leaves its export in metadata.retired; the
next one deletes what it holds, or exports again when the file is not whole any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path

import psycopg2
import structlog
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL

from runner.upkeep.archive import RetentionError, archive_dir, export_rows, verify
from runner.upkeep.dump_file import sha256_of
from runner.upkeep.kept import instance_mark
from runner.upkeep.programs import CheckedRun
from runner.upkeep.retirable import HeldBack, Reason, Rule, held_back, rules
from warehouse import database
from warehouse.catalogue import deployed
from warehouse.settings import Settings

_LOCK = "select pg_try_advisory_lock(hashtextextended('oversight retire', 0))"

log = structlog.get_logger("oversight.retention")


@dataclass(frozen=True, kw_only=True)
class Retired:
    """Rows of one table that went, or would go; `file` holds them, None in a dry run."""

    table: str
    reason: Reason
    before: str
    rows: int
    file: Path | None = None
    sha256: str | None = None
    is_deleted: bool = False


@dataclass(frozen=True, kw_only=True)
class _Pending:
    """An export whose rows still stand in their table."""

    retired_id: int
    group: str
    retired: Retired


def retire(
    settings: Settings, *, dry_run: bool = False, run: CheckedRun | None = None
) -> list[Retired]:
    """Export and delete what the deployed catalogue lets go. RetentionError: the tables that are
    not among those already gone are whole."""
    # As the login that migrates: dbt's role may neither write exports down nor have them deleted.
    connection = database.connect(settings, application_name="oversight retire")
    try:
        with _locked(connection) as cursor:
            done: list[Retired] = []
            catalogue = deployed(connection)
            found = rules(cursor, catalogue, datetime.now(timezone.utc))
            for holder in held_back(cursor, catalogue):
                log.warning("rows held back", model=holder.model, batches=holder.batches)
            mark = instance_mark(cursor)
            connection.commit()
            if not dry_run:
                for path in archive_dir(settings).glob(f"*-{mark}-*.partial"):
                    path.unlink(missing_ok=True)
                done += _delete_left_behind(connection, settings, found, run)
            for _, group in groupby(found, key=lambda rule: rule.group):
                if run is not None:
                    run.check()
                if dry_run:
                    done += _count(connection, list(group))
                else:
                    done += _delete(connection, _export(connection, settings, list(group)), run)
    except psycopg2.Error as error:
        raise RetentionError(
            f"retention stopped, and deleted nothing more: {str(error).strip()}"
        ) from error
    finally:
        connection.close()
    if run is not None:
        run.rows_affected = sum(item.rows for item in done if item.is_deleted)
    return done


def holders(settings: Settings) -> list[HeldBack]:
    """The models that have not taken every landed batch, and so hold raw rows back."""
    connection = database.connect(settings, application_name="oversight retire")
    try:
        with connection.cursor() as cursor:
            return held_back(cursor, deployed(connection))
    finally:
        connection.close()


@contextmanager
def _locked(connection: Connection) -> Iterator[Cursor]:
    with connection.cursor() as cursor:
        cursor.execute(_LOCK)
        if cursor.fetchone() != (True,):
            raise RetentionError("retention is running already; wait for it")
        cursor.execute("set timezone = 'UTC'; set datestyle = 'ISO, MDY'")
        connection.commit()
        yield cursor


def _pick(cursor: Cursor, group: Sequence[Rule]) -> list[tuple[Rule, str]]:
    """Write the keys of each rule into a temporary table; a row goes for its first reason only."""
    picked: list[tuple[Rule, str]] = []
    for number, rule in enumerate(group):
        name = f"picked_{number}"
        earlier = SQL("").join(
            SQL(" and picks.key_value not in (select key_value from pg_temp.{})").format(SQL(other))
            for before, other in picked
            if before.table == rule.table
        )
        cursor.execute(
            SQL(
                "create temporary table {} on commit drop as "
                "select picks.key_value from ({}) as picks (key_value) where true{}"
            ).format(SQL(name), rule.picks, earlier)
        )
        cursor.execute(f"analyze pg_temp.{name}")
        picked.append((rule, name))
    return picked


def _count(connection: Connection, group: Sequence[Rule]) -> list[Retired]:
    found: list[Retired] = []
    with connection, connection.cursor() as cursor:
        for rule, name in _pick(cursor, group):
            cursor.execute(
                f"select count(*) from {rule.table} where {rule.key} in "
                f"(select key_value from pg_temp.{name})"
            )
            (rows,) = cursor.fetchone() or (0,)
            if rows:
                found.append(_retired(rule, rows))
    return found


def _retired(rule: Rule, rows: int) -> Retired:
    return Retired(table=rule.table, reason=rule.reason, before=rule.before, rows=rows)


def _export(connection: Connection, settings: Settings, group: Sequence[Rule]) -> list[_Pending]:
    """Export each rule's rows and note which they are; committed before anything is deleted."""
    pending: list[_Pending] = []
    try:
        with connection, connection.cursor() as cursor:
            _export_each(cursor, archive_dir(settings), group, pending)
    except BaseException:
        for item in pending:
            if item.retired.file is not None:
                item.retired.file.unlink(missing_ok=True)
        raise
    return pending


def _export_each(
    cursor: Cursor, folder: Path, group: Sequence[Rule], pending: list[_Pending]
) -> None:
    for rule, name in _pick(cursor, group):
        cursor.execute(f"select exists (select from pg_temp.{name})")
        if cursor.fetchone() != (True,):
            continue
        moment = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S%fZ}"
        file = folder / f"{rule.table}-{rule.reason}-{instance_mark(cursor)}-{moment}.jsonl.gz"
        export = export_rows(cursor, rule.table, rule.key, name, file)
        cursor.execute(
            "insert into metadata.retired "
            "(table_name, key_column, reason, before, rows, file, bytes, sha256) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s) returning retired_id",
            (
                *(rule.table, rule.key, rule.reason, rule.before),
                *(export.rows, file.name, export.bytes, export.sha256),
            ),
        )
        (retired_id,) = cursor.fetchone() or (0,)
        cursor.execute(
            "insert into metadata.retiring (retired_id, key_value) "
            f"select %s, key_value from pg_temp.{name}",
            (retired_id,),
        )
        retired = replace(_retired(rule, export.rows), file=file, sha256=export.sha256)
        pending.append(_Pending(retired_id=retired_id, group=rule.group, retired=retired))
        log.info("exported", table=rule.table, rows=export.rows, file=str(file))


def _delete_left_behind(
    connection: Connection, settings: Settings, found: Sequence[Rule], run: CheckedRun | None
) -> list[Retired]:
    """What can't be deleted as it was exported is forgotten, and picked anew."""
    done: list[Retired] = []
    for _, items in groupby(_left_behind(connection, settings, found), key=lambda item: item.group):
        group = list(items)
        try:
            done += _delete(connection, group, run)
        except psycopg2.IntegrityError as error:
            log.warning("exported rows are mentioned by others by now", error=str(error).strip())
            with connection, connection.cursor() as cursor:
                cursor.execute(
                    "delete from metadata.retired where retired_id = any(%s)",
                    ([item.retired_id for item in group],),
                )
    return done


def _left_behind(
    connection: Connection, settings: Settings, found: Sequence[Rule]
) -> list[_Pending]:
    """Exports of a run that died before it deleted; those that are not whole, or that nothing
    declares any more, are forgotten.

    All of a table or none: where one export of a group is lost, its others are made again too.
    """
    groups: dict[str, list[_Pending]] = {}
    lost: set[str] = set()
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "select retired_id, table_name, key_column, reason, before, rows, file, sha256 "
            "from metadata.retired where deleted_at is null order by retired_id"
        )
        for retired_id, table, key, reason, before, rows, name, sha256 in cursor.fetchall():
            file = archive_dir(settings) / name
            group = "metadata.refresh_log" if table == "metadata.refresh_log_model" else table
            retired = Retired(
                table=table, reason=reason, before=before, rows=rows, file=file, sha256=sha256
            )
            groups.setdefault(group, []).append(
                _Pending(retired_id=retired_id, group=group, retired=retired)
            )
            is_declared = any(_covers(rule, retired) for rule in found)
            if not is_declared or not _is_whole(file, key, rows, sha256):
                lost.add(group)
        for group in lost:
            numbers = [item.retired_id for item in groups.pop(group)]
            log.warning("exports of a run that died are not whole or not declared", group=group)
            cursor.execute("delete from metadata.retired where retired_id = any(%s)", (numbers,))
    return [item for kept in groups.values() for item in kept]


def _covers(rule: Rule, retired: Retired) -> bool:
    """Whether the rule of today lets all of an export go."""
    return (rule.table, rule.reason) == (retired.table, retired.reason) and (
        datetime.fromisoformat(rule.before) >= datetime.fromisoformat(retired.before)
    )


def _is_whole(file: Path, key: str, rows: int, sha256: str) -> bool:
    try:
        return sha256_of(file) == sha256 and verify(file, key) == rows
    except (OSError, RetentionError):
        return False


def _delete(
    connection: Connection, pending: Sequence[_Pending], run: CheckedRun | None
) -> list[Retired]:
    """Each group in a transaction of its own: all of it, or an error and none of it."""
    done: list[Retired] = []
    for _, items in groupby(pending, key=lambda item: item.group):
        if run is not None:
            run.check()
        found = list(items)
        with connection, connection.cursor() as cursor:
            for item in found:
                cursor.execute("select metadata.retire_rows(%s)", (item.retired_id,))
        for item in found:
            log.info("retired", table=item.retired.table, rows=item.retired.rows)
            done.append(replace(item.retired, is_deleted=True))
    return done
