"""Streams a file through DuckDB into PostgreSQL: never a whole file in memory, no row in Python."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import psycopg2

from runner.landing.errors import LandingError
from runner.landing.extracts import Extract, first_line
from runner.landing.sources import KEPT_CHARACTERS, MAX_LINE_BYTES, MAX_UNPARSED
from runner.landing.sql import REASON_SEPARATOR, select_records
from runner.landing.values import literal

Progress = Callable[[float], None]
_MEMORY_LIMIT = "256MB"
_PIPE_BYTES = 1 << 20
_SILENCE_SECONDS = 0.1
_MAX_UNLIMITED_BYTES = 150 << 20
_REJECTS = "unparsed"
_CUT_TOLERANCE_BYTES = 4
_BAD_FILE = (duckdb.IOException, duckdb.InvalidInputException, duckdb.OutOfMemoryException)
_REJECT_REASONS = {
    "TOO MANY COLUMNS": "it has too many fields",
    "MISSING COLUMNS": "it has too few fields",
    "UNQUOTED VALUE": "a quoted field is not closed, or goes on after its closing quote",
    "LINE SIZE OVER MAXIMUM": f"it is longer than {MAX_LINE_BYTES} bytes",
    "INVALID ENCODING": "it is not valid in the declared encoding",
}


class PipeSource:
    """What COPY reads. While the pipe is silent it watches memory: DuckDB keeps what it can't parse
    outside its memory limit. psycopg2 hides what `read` raises, so `failure` keeps it."""

    def __init__(
        self,
        descriptor: int,
        path: Path,
        database: duckdb.DuckDBPyConnection,
        watcher: duckdb.DuckDBPyConnection,
        progress: Progress,
    ) -> None:
        self._descriptor = descriptor
        self._path = path
        self._database = database
        self._watcher = watcher
        self._progress = progress
        self._resident = _resident_bytes()
        self.failure: LandingError | None = None

    def read(self, size: int = _PIPE_BYTES, /) -> bytes:
        """The next bytes, none at the end."""
        self._progress(self._database.query_progress())
        while not select.select([self._descriptor], [], [], _SILENCE_SECONDS)[0]:
            if self._unlimited_bytes() > _MAX_UNLIMITED_BYTES:
                self.failure = LandingError(
                    f"{self._path}: too many of its records can't be parsed; the file is not what "
                    "is declared: compare its delimiter, quotes and number of fields"
                )
                raise self.failure
        return os.read(self._descriptor, max(size, _PIPE_BYTES))

    def readline(self, size: int = _PIPE_BYTES, /) -> bytes:
        """Part of what psycopg2 asks of a file, though COPY never reads lines."""
        return self.read(size)

    def _unlimited_bytes(self) -> int:
        """What the process has grown by beyond what DuckDB's limit covers."""
        growth = _resident_bytes() - self._resident
        if growth < _MAX_UNLIMITED_BYTES:
            return 0
        row = self._watcher.execute(
            "select sum(memory_usage_bytes) from duckdb_memory()"
        ).fetchone()
        return growth - int(row[0]) if row else growth


def _resident_bytes() -> int:
    """Memory that this process holds; 0 where the system doesn't say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


class ExtractReader:
    """A private DuckDB; one thread, so that records keep their order and memory stays small."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="oversight-load-"))
        self._pipe = self._folder / "pipe"
        self._link = self._folder / "extract"
        os.mkfifo(self._pipe, 0o600)
        self._database = duckdb.connect(
            config={
                "threads": 1,
                "memory_limit": _MEMORY_LIMIT,
                "temp_directory": str(self._folder / "spill"),
                "enable_external_file_cache": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        for setting in (
            "TimeZone = 'UTC'",
            "enable_progress_bar = true",
            "enable_progress_bar_print = false",
        ):
            self._database.execute(f"set {setting}")

        self._watcher = self._database.cursor()

    def __enter__(self) -> ExtractReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._watcher.close()
            self._database.close()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def stream_records(
        self,
        extract: Extract,
        *,
        file_number: int,
        currency: str,
        sink: Callable[[PipeSource], Any],
        progress: Progress,
    ) -> None:
        """Give the file's records as CSV to `sink`, in the columns of `incoming_columns`."""
        self._database.execute(f"drop table if exists {_REJECTS}")
        self._database.execute(f"drop table if exists {_REJECTS}_scans")
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(extract.path.absolute())
        statement = select_records(
            extract,
            path=str(self._link),
            file_number=file_number,
            currency=currency,
            rejects=_REJECTS,
        )
        self._stream(extract, statement, sink, progress)
        status = extract.path.stat()
        if (status.st_size, status.st_mtime_ns) != (extract.size, extract.modified_ns):
            raise LandingError(f"{extract.path}: it changed while it was read; load it again")

    def stream_unparsed(
        self, extract: Extract, *, file_number: int, sink: Callable[[PipeSource], Any]
    ) -> None:
        """Give what the reader could not parse: file and record number, reasons, text.

        LandingError when that is so much, or so shaped, that records can't be told from another.
        """
        if extract.format == "parquet":
            return
        self._check_unparsed(extract)
        reason = " ".join(
            f"when error_type = {literal(kind)} then {literal(text)}"
            for kind, text in _REJECT_REASONS.items()
        )
        header = 1 if extract.format == "csv" else 0
        statement = f"""
            select {file_number}, line - {header},
                string_agg(distinct case {reason} else lower(error_type::varchar) end,
                    chr({ord(REASON_SEPARATOR)})),
                left(replace(first(csv_line), chr(0), '\\0'), {KEPT_CHARACTERS})
            from {_REJECTS} group by line order by line
        """
        self._stream(extract, statement, sink, lambda _share: None)

    def _check_unparsed(self, extract: Extract) -> None:
        """A record that goes over several lines may have swallowed those after it."""
        row = self._database.execute(
            f"""
            select count(*), min(line) filter (
                where contains(rtrim(csv_line, chr(10) || chr(13)), chr(10))
            ) from {_REJECTS}
            """
        ).fetchone()
        count, swallowing = row or (0, None)
        if count >= MAX_UNPARSED:
            raise LandingError(
                f"{extract.path}: {count} records or more can't be parsed; the file is not what is "
                "declared: compare its delimiter, quotes and number of fields"
            )
        if swallowing is not None:
            raise LandingError(
                f"{extract.path}: in line {swallowing} or soon after, a quoted field is not closed "
                "and takes in the lines after it; have the engine write it again"
            )

    def is_tail_unparsed(self, extract: Extract) -> bool:
        """Whether the file's last bytes are already part of a record that could not be parsed."""
        row = self._database.execute(
            f"select max(line_byte_position + strlen(csv_line)) from {_REJECTS}"
        ).fetchone()
        return bool(row and row[0] and row[0] + _CUT_TOLERANCE_BYTES >= extract.size)

    def _stream(
        self,
        extract: Extract,
        statement: str,
        sink: Callable[[PipeSource], Any],
        progress: Progress,
    ) -> None:
        """DuckDB writes the pipe in a thread. `keeper` holds the pipe open until that thread is
        done, so that a writer that fails before it opens the pipe ends the reader too."""
        failures: list[duckdb.Error] = []
        reader = os.open(self._pipe, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        keeper = os.open(self._pipe, os.O_WRONLY)

        def write() -> None:
            try:
                self._database.execute(
                    f"copy ({statement}) to {literal(str(self._pipe))} (format csv, header false)"
                )
            except duckdb.Error as error:
                failures.append(error)
            finally:
                os.close(keeper)

        source = PipeSource(reader, extract.path, self._database, self._watcher, progress)
        writer = threading.Thread(target=write, name="extract-reader")
        writer.start()
        is_read = False
        try:
            sink(source)
            is_read = True
        except psycopg2.Error:
            if source.failure is not None:
                raise source.failure from None
            raise
        finally:
            if not is_read:
                self._database.interrupt()
                while os.read(reader, _PIPE_BYTES):
                    pass
            writer.join()
            os.close(reader)
        if failures and not isinstance(failures[0], _BAD_FILE):
            raise failures[0]
        if failures:
            raise LandingError(f"{extract.path}: can't be read: {_explain(failures[0])}")


def _explain(error: duckdb.Error) -> str:
    text = first_line(error)
    if "invalid state" in text:
        return "its lines end in different ways (LF and CR LF); write it with one of them"
    if isinstance(error, duckdb.OutOfMemoryException):
        return "a record is too large to be read; look for a missing quote or line end"
    return text
