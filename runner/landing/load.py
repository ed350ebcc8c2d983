"""Landing: the extracts of an engine become one batch in one transaction, or change nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
import structlog
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from runner.landing.errors import LandingError
from runner.landing.extracts import Extract, inspect, match_files
from runner.landing.reader import ExtractReader
from runner.landing.snapshots import land_snapshots, place_in_time
from runner.landing.tables import (
    FileCount,
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


@dataclass(kw_only=True)
class LoadReport:
    """What became of one engine's folder; `batch_id` is None when nothing was new."""

    engine: str
    batch_id: int | None = None
    status: str = "landed"
    files: list[FileCount] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    voided: int = 0
    notes: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def is_clean(self) -> bool:
        """Whether everything landed or nothing was new."""
        return self.status == "landed" and not any(count.rejected for count in self.files)


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
    progress: Progress = lambda _name, _share: None,
) -> LoadReport:
    """Land the new files of an engine's folder as one batch.

    A file that misfits rejects the batch: the report says why, a row in metadata.batches too, and
    nothing else changes. `again` also reads files that have landed before.
    """
    report = LoadReport(engine=engine)
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
                extracts = _new_extracts(cursor, catalogue, engine, folder, report, again=again)
                if extracts:
                    _land(cursor, catalogue, folder, extracts, report, allow_void, progress)
        except LandingError as error:
            report.status, report.error = "rejected", str(error)
            report.files, report.voided = [], 0
            with connection, connection.cursor() as cursor:
                report.batch_id = _open_batch(cursor, engine, "rejected", folder)[0]
                _close_batch(cursor, report)
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


def _new_extracts(
    cursor: Cursor,
    catalogue: Catalogue,
    engine: str,
    folder: Path,
    report: LoadReport,
    *,
    again: bool,
) -> list[Extract]:
    """Look at every file; all that misfit are named in one error. Landed ones are skipped."""
    found = match_files(folder, catalogue.engine_tables(engine))
    report.ignored = found.ignored
    if not found.matched:
        patterns = [name for table in catalogue.engine_tables(engine) for name in table.files]
        raise LandingError(
            f"{folder} holds no extract of {engine}, whose files are called {', '.join(patterns)}"
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


def _land(
    cursor: Cursor,
    catalogue: Catalogue,
    folder: Path,
    extracts: Sequence[Extract],
    report: LoadReport,
    allow_void: bool,
    progress: Progress,
) -> None:
    report.batch_id, landed_at = _open_batch(cursor, report.engine, "landed", folder)
    with ExtractReader() as reader:
        for table in catalogue.engine_tables(report.engine):
            own = [extract for extract in extracts if extract.table == table]
            if own:
                batch = TableBatch(
                    table=table, batch_id=report.batch_id, extracts=own, landed_at=landed_at
                )
                _land_table(cursor, batch, reader, catalogue, report, allow_void, progress)
    _close_batch(cursor, report)
    cursor.execute("select pg_notify('oversight_landed', %s)", (report.engine,))


def _land_table(
    cursor: Cursor,
    batch: TableBatch,
    reader: ExtractReader,
    catalogue: Catalogue,
    report: LoadReport,
    allow_void: bool,
    progress: Progress,
) -> None:
    stream_in(
        cursor,
        batch,
        reader,
        currency=catalogue.reporting_currency,
        progress=lambda extract, share: progress(extract.name, share),
    )
    place_in_time(cursor, batch)
    count_records(cursor, batch)
    store_rejects(cursor, batch)
    check_counts(batch, may_be_empty=allow_void)
    if batch.table.mode == "snapshot":
        report.voided += land_snapshots(cursor, batch, allow_void=allow_void)
    else:
        land_versions(cursor, batch)
    _record_table(cursor, batch)
    report.files += batch.counts
    report.notes += batch.notes
    for extract in batch.extracts:
        progress(extract.name, 100.0)


def _open_batch(cursor: Cursor, engine: str, status: str, folder: Path) -> tuple[int, str]:
    cursor.execute(
        "insert into metadata.batches (engine, status, path) values (%s, %s, %s) "
        "returning batch_id, landed_at::text",
        (engine, status, str(folder.absolute())),
    )
    row = cursor.fetchone()
    assert row is not None
    return int(row[0]), str(row[1])


def _close_batch(cursor: Cursor, report: LoadReport) -> None:
    content = dataclasses.asdict(report)
    for name in ("engine", "batch_id", "status"):
        del content[name]
    cursor.execute(
        "update metadata.batches set report = %s where batch_id = %s",
        (json.dumps(content), report.batch_id),
    )


def _record_table(cursor: Cursor, batch: TableBatch) -> None:
    """What the batch holds per organization, those included whose records were all unchanged."""
    table = batch.table
    for organization, total in batch.organizations.items():
        cursor.execute(
            "insert into metadata.batch_tables (batch_id, engine, source_table, organization_id, "
            "accepted, voided, extracted_through) values (%s, %s, %s, %s, %s, %s, %s)",
            (
                batch.batch_id,
                table.engine,
                table.name,
                organization,
                total.accepted,
                total.voided,
                total.extracted_through,
            ),
        )
    for extract, count in zip(batch.extracts, batch.counts, strict=True):
        cursor.execute(
            "insert into metadata.landed_files "
            "(engine, source_table, sha256, batch_id, file_name, bytes, records) "
            "values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
            (
                table.engine,
                table.name,
                extract.identity,
                batch.batch_id,
                extract.name,
                extract.size,
                count.read,
            ),
        )
