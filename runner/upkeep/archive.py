"""Rows that are about to go, written to compressed JSON Lines and read back before they do."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from runner.upkeep.dump_file import sha256_of, sync_folder
from runner.upkeep.kept import private_folder
from warehouse.errors import OversightError
from warehouse.settings import Settings

_COPY_BYTES = 1 << 18
# JSON holds neither control character, so that COPY's CSV neither quotes nor escapes anything.
_PLAIN = "with (format csv, delimiter e'\\x02', quote e'\\x01')"


class RetentionError(OversightError):
    """Nothing was deleted; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """A file that holds rows of one table, verified."""

    file: Path
    rows: int
    bytes: int
    sha256: str


def archive_dir(settings: Settings) -> Path:
    """Where exports lie; made readable by its owner alone."""
    folder = settings.home / "archive"
    try:
        return private_folder(folder)
    except OSError as error:
        raise RetentionError(
            f"can't export to {folder} ({error}), nothing was deleted; make it a folder of the "
            "user that runs Oversight, or set OVERSIGHT_HOME to another"
        ) from error


def export_rows(cursor: Cursor, table: str, key: str, picked: str, file: Path) -> Export:
    """Write the rows of `schema.table` whose key is in the temporary table `picked`.

    The file appears under its name when it was written, read back and compared. RetentionError
    when it can't be; a partial file never stays.
    """
    partial = file.with_name(f"{file.name}.partial")
    try:
        written = _write(cursor, table, key, picked, partial)
        cursor.execute(
            SQL("select count(*) from {} where {} in (select key_value from pg_temp.{})").format(
                Identifier(*table.split(".")), Identifier(key), Identifier(picked)
            )
        )
        (expected,) = cursor.fetchone() or (0,)
        rows = verify(partial, key, written)
        if rows != expected:
            raise RetentionError(
                f"{file} holds {rows} rows of {table} instead of {expected}; nothing was deleted"
            )
        export = Export(
            file=file, rows=rows, bytes=partial.stat().st_size, sha256=sha256_of(partial)
        )
        partial.rename(file)
        sync_folder(file.parent)
    except OSError as error:
        raise RetentionError(
            f"can't export {table} to {file.parent}: {error}; nothing was deleted, make room there "
            "and run `oversight retire` again"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return export


def verify(file: Path, key: str, content_sha256: str | None = None) -> int:
    """Read an export to its end and count its rows; RetentionError when anything is amiss."""
    digest = hashlib.sha256()
    rows = 0
    try:
        with gzip.open(file, "rb") as stream:
            for line in stream:
                digest.update(line)
                if key not in json.loads(line):
                    raise RetentionError(f"{file}, line {rows + 1} holds no {key}")
                rows += 1
    except (OSError, EOFError, ValueError) as error:
        raise RetentionError(f"{file} can't be read back: {error}; nothing was deleted") from error
    if content_sha256 is not None and digest.hexdigest() != content_sha256:
        raise RetentionError(f"{file} does not read as it was written; nothing was deleted")
    return rows


class _Digested:
    """A sink for COPY that compresses and keeps the hash of what it was given."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def write(self, data: str | bytes) -> int:
        content = data.encode() if isinstance(data, str) else data
        self.digest.update(content)
        return self._stream.write(content)


def _write(cursor: Cursor, table: str, key: str, picked: str, partial: Path) -> str:
    """The SHA-256 of the lines that were written."""
    query = SQL(
        "copy (select row_to_json(t)::text from {table} as t where t.{key} in "
        "(select key_value from pg_temp.{picked}) order by t.{key}) to stdout "
    ).format(
        table=Identifier(*table.split(".")), key=Identifier(key), picked=Identifier(picked)
    ) + SQL(_PLAIN)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as raw:
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6) as stream:
            sink = _Digested(stream)
            cursor.copy_expert(query, sink, _COPY_BYTES)
        raw.flush()
        os.fsync(raw.fileno())
    return sink.digest.hexdigest()
