"""Landing: the extracts of an engine become one batch in one transaction, or change nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import structlog
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from runner.landing.closing import reject_closed
from runner.landing.errors import LandingError
from runner.landing.extracts import Extract, inspect, match_files
from runner.landing.ledger import LoadReport, Window, close_batch, open_batch, record_table
from runner.landing.reader import ExtractReader
from runner.landing.snapshots import land_snapshots, place_in_time
from runner.landing.tables import (
    TableBatch,
    check_counts,
    count_records,
    store_rejects,
    stream_in,
)
from runner.landing.versions import land_versions
from warehouse import database
from warehouse.declared import Catalogue
from warehouse.raw_tables import ensure_raw_tables
from warehouse.settings import Settings

Progress = Callable[[str, float], None]
# Times come from DuckDB in UTC and without a zone.
_SESSION = {"work_mem": "64MB", "temp_buffers": "64MB", "timezone": "UTC", "jit": "off"}
_log = structlog.get_logger("oversight.landing")
OnTable = Callable[[Cursor, TableBatch], None]
"""Called in the landing's transaction while the records of a table are in `incoming`."""


@dataclass(frozen=True, kw_only=True)
class _Load:
    """One load while it is done."""

    catalogue: Catalogue
    report: LoadReport
    folder: Path
    origin: str
    is_pulled: bool
    window: Window | None
    allow_void: bool
    progress: Progress
    on_table: OnTable | None


def engine_folders(path: Path, catalogue: Catalogue, engine: str | None) -> dict[str, Path]:
    """The folder of each engine to load; LandingError before anything lands when one is unknown.

    With `engine`, that is the subfolder of its name or, where there is none, `path` itself.
    """
    if not path.is_dir():
        raise LandingError(f"{path} is no folder; give the folder that holds the extracts")
    known = ", ".join(catalogue.engines) or "none"
    if engine is not None:
        if engine not in catalogue.engines:
            raise LandingError(f"engine {engine} is not declared; declared are: {known}")
        return {engine: path / engine if (path / engine).is_dir() else path}
    folders = sorted(
        item for item in path.iterdir() if item.is_dir() and not item.name.startswith(".")
    )
    unknown = [item.name for item in folders if item.name not in catalogue.engines]
    if unknown:
        raise LandingError(
            f"{path}: no engine of the name{'s' if len(unknown) > 1 else ''} {', '.join(unknown)} "
            f"is declared (declared are: {known}); declare it in models/staging, deploy, or move "
            "the folder away"
        )
    if not folders:
        raise LandingError(
            f"{path} holds no folder of a declared engine ({known}); for the files of one engine "
            "name it: oversight load ENGINE --path DIR"
        )
    return {item.name: item for item in folders}


def load_engine(
    settings: Settings,
    catalogue: Catalogue,
    engine: str,
    folder: Path,
    *,
    allow_void: bool = False,
    again: bool = False,
    window: Window | None = None,
    origin: str | None = None,
    on_table: OnTable | None = None,
    progress: Progress = lambda _name, _share: None,
) -> LoadReport:
    """Land the new files of an engine's folder as one batch.

    A file that misfits rejects the batch: the report says why, a row in metadata.batches too, and
    nothing else changes. `again` also reads files that have landed before. With a `window` it is a
    backfill of those days. `origin` is the address of the engine where a pull fetched the files.
    """
    report = LoadReport(engine=engine, is_backfill=window is not None)
    load = _Load(
        catalogue=catalogue,
        report=report,
        folder=folder,
        origin=origin or str(folder.absolute()),
        is_pulled=origin is not None,
        window=window,
        allow_void=allow_void,
        progress=progress,
        on_table=on_table,
    )
    connection = database.connect(settings, application_name="oversight load")
    try:
        ensure_raw_tables(connection, catalogue.sources)
    finally:
        connection.close()
    connection = database.connect(
        settings, role="oversight_loader", application_name="oversight load"
    )
    try:
        _set_up(connection)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(
                    "select pg_advisory_xact_lock(hashtextextended('oversight.load.' || %s, 0))",
                    (engine,),
                )
                extracts = _new_extracts(cursor, load, again=again)
                if extracts:
                    _land(cursor, load, extracts)
        except LandingError as error:
            report.status, report.error = "rejected", str(error)
            report.files, report.voided = [], 0
            with connection, connection.cursor() as cursor:
                report.batch_id = open_batch(cursor, engine, "rejected", load.origin, load.window)[
                    0
                ]
                close_batch(cursor, report)
    except psycopg2.OperationalError as error:
        raise LandingError(
            f"the database gave up on {folder}: {str(error).strip()}; nothing landed, load it again"
        ) from error
    finally:
        connection.close()
    _log.info(
        "load", engine=engine, status=report.status, batch_id=report.batch_id, error=report.error
    )
    return report


def _set_up(connection: Connection) -> None:
    with connection, connection.cursor() as cursor:
        for name, value in _SESSION.items():
            cursor.execute(SQL("set {} = %s").format(Identifier(name)), (value,))


def _new_extracts(cursor: Cursor, load: _Load, *, again: bool) -> list[Extract]:
    """Look at every file; all that misfit are named in one error. Landed ones are skipped."""
    report, engine = load.report, load.report.engine
    tables = load.catalogue.engine_tables(engine)
    found = match_files(load.folder, tables)
    report.ignored = found.ignored
    if not found.matched:
        patterns = ", ".join(name for table in tables for name in table.files)
        raise LandingError(
            f"{load.folder} holds no extract of {engine}, whose files are called {patterns}"
        )
    cursor.execute(
        "select source_table, sha256, batch_id from metadata.landed_files where engine = %s",
        (engine,),
    )
    landed = {(table, identity): batch_id for table, identity, batch_id in cursor.fetchall()}
    extracts: list[Extract] = []
    seen: dict[tuple[str, str], str] = {}
    problems: list[str] = []
    for path, table in found.matched:
        try:
            extract = inspect(path, table)
        except LandingError as error:
            problems.append(str(error))
            continue
        key = (table.name, extract.identity)
        if key in landed and not again:
            report.skipped[extract.name] = landed[key]
        elif key in seen:
            report.notes.append(f"{extract.name} holds the same as {seen[key]} and was left out")
        else:
            seen[key] = extract.name
            extracts.append(extract)
    if problems:
        raise LandingError("\n".join(problems))
    return extracts


def _land(cursor: Cursor, load: _Load, extracts: Sequence[Extract]) -> None:
    report = load.report
    report.batch_id, landed_at = open_batch(
        cursor, report.engine, "landed", load.origin, load.window
    )
    with ExtractReader() as reader:
        for table in load.catalogue.engine_tables(report.engine):
            own = [extract for extract in extracts if extract.table == table]
            if own:
                batch = TableBatch(
                    table=table,
                    batch_id=report.batch_id,
                    extracts=own,
                    landed_at=landed_at,
                    is_pulled=load.is_pulled,
                )
                _land_table(cursor, batch, reader, load)
    close_batch(cursor, report)
    cursor.execute("select pg_notify('oversight_landed', %s)", (report.engine,))


def _land_table(cursor: Cursor, batch: TableBatch, reader: ExtractReader, load: _Load) -> None:
    report = load.report
    stream_in(
        cursor,
        batch,
        reader,
        currency=load.catalogue.reporting_currency,
        progress=lambda extract, share: load.progress(extract.name, share),
    )
    place_in_time(cursor, batch)
    reject_closed(cursor, batch, load.catalogue)
    count_records(cursor, batch)
    store_rejects(cursor, batch)
    check_counts(batch, may_be_empty=load.allow_void)
    if load.on_table is not None:
        load.on_table(cursor, batch)
    if batch.table.mode == "snapshot":
        report.voided += land_snapshots(cursor, batch, allow_void=load.allow_void)
    else:
        land_versions(cursor, batch)
    record_table(cursor, batch, is_backfill=load.report.is_backfill)
    report.files += batch.counts
    report.notes += batch.notes
    for extract in batch.extracts:
        load.progress(extract.name, 100.0)
