"""Extract files: which table each belongs to, and whether it can be one of it at all."""

from __future__ import annotations

import collections
import csv
import fnmatch
import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb

from runner.landing.errors import LandingError
from runner.landing.scan import scan
from runner.landing.times import ControlFile, as_of_text, read_control_file, window_text
from warehouse.declared import SourceTable

Format = Literal["csv", "jsonl", "parquet"]
FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
CONTROL_SUFFIX = ".control.json"
_PYTHON_ENCODINGS = {"utf-8": "utf-8-sig", "utf-16": "utf-16", "latin-1": "latin-1"}
_DELIMITERS = (",", ";", "\t", "|")
_SAMPLED_RECORDS = 1000
_MIN_SAMPLE = 100
_MIN_FITTING_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Extract:
    """One file of one source table, looked at but not yet read.

    `columns` are the names of its columns as they stand, for Parquet with DuckDB's types beside;
    `identity` is what makes it the same extract again: SHA-256 of its bytes and, where they say
    something of their own, of its control file and name. `records` are the counts, header included,
    that its line ends allow; none where they can't be told.
    """

    table: SourceTable
    path: Path
    format: Format
    size: int
    modified_ns: int
    identity: str
    columns: tuple[str, ...]
    types: tuple[str, ...] = ()
    has_nul: bool = False
    has_final_newline: bool = True
    records: frozenset[int] = frozenset()
    control: ControlFile | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.path.name

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Columns that the file has and the declaration doesn't."""
        declared = {column.name for column in self.table.columns}
        return tuple(name for name in self.columns if name not in declared)


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The files of one engine's folder: those of a table, and those of none."""

    matched: tuple[tuple[Path, SourceTable], ...]
    ignored: tuple[str, ...]


def match_files(folder: Path, tables: Sequence[SourceTable]) -> Folder:
    """Match each file to the one table that declares it; LandingError when two tables do."""
    matched: list[tuple[Path, SourceTable]] = []
    ignored: list[str] = []
    problems: list[str] = []
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise LandingError(f"{folder}: can't be read: {error.strerror}") from error
    for path in paths:
        if path.name.endswith(CONTROL_SUFFIX) and path.is_file():
            if not path.with_name(path.name.removesuffix(CONTROL_SUFFIX)).is_file():
                ignored.append(path.name)
            continue
        owners = [
            table
            for table in tables
            if any(fnmatch.fnmatchcase(path.name, pattern) for pattern in table.files)
        ]
        if not path.is_file() or not owners:
            ignored.append(path.name + ("/" if path.is_dir() else ""))
        elif len(owners) > 1:
            names = " and ".join(table.name for table in owners)
            problems.append(f"{path}: the patterns of {names} match it; make them differ")
        else:
            matched.append((path, owners[0]))
    if problems:
        raise LandingError("\n".join(problems))
    return Folder(matched=tuple(matched), ignored=tuple(ignored))


def inspect(path: Path, table: SourceTable) -> Extract:
    """Read the bytes once and the columns; LandingError when it can't be one of the table."""
    file_format = FORMATS.get(path.suffix.lower())
    if file_format is None:
        raise LandingError(
            f"{path}: {path.suffix or 'no suffix'} is no known format; give the file one of "
            f"{', '.join(FORMATS)}"
        )
    try:
        status = path.stat()
        scanned = scan(
            path,
            encoding=table.encoding,
            is_text=file_format != "parquet",
            is_csv=file_format == "csv",
        )
    except OSError as error:
        raise LandingError(f"{path}: can't be read: {error.strerror}") from error
    if not scanned.head.strip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"):
        raise LandingError(f"{path}: the file is empty; have the engine write it again")
    control = read_control_file(path.with_name(path.name + CONTROL_SUFFIX))
    columns, types = _READERS[file_format](path, table)
    _check_columns(path, table, columns)
    said = [scanned.digest]
    if control:
        said.append(control.text)
    if any(item and item.kind == "file_name" for item in (table.window, table.as_of)):
        said.append(path.name)
    extract = Extract(
        table=table,
        path=path,
        format=file_format,
        size=status.st_size,
        modified_ns=status.st_mtime_ns,
        identity=scanned.digest
        if len(said) == 1
        else hashlib.sha256("\n".join(said).encode()).hexdigest(),
        columns=columns,
        types=types,
        has_nul=scanned.has_nul,
        has_final_newline=scanned.has_final_newline,
        records=scanned.records if len(columns) > 1 and file_format != "parquet" else frozenset(),
        control=control,
    )
    window_text(extract)
    as_of_text(extract)
    return extract


def _read_csv_header(path: Path, table: SourceTable) -> tuple[tuple[str, ...], tuple[str, ...]]:
    with path.open("rb") as file:
        start = file.read(4)
    if table.encoding == "utf-8" and start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise LandingError(
            f"{path}: it is UTF-16, but the declaration says UTF-8; declare `encoding: utf-16`"
        )
    try:
        with path.open(
            encoding=_PYTHON_ENCODINGS[table.encoding], errors="replace", newline=""
        ) as text:
            records = csv.reader(text, delimiter=table.delimiter, strict=True)
            header = next(records, [])
            _check_width(path, len(header), itertools.islice(records, _SAMPLED_RECORDS))
    except (UnicodeDecodeError, csv.Error) as error:
        raise LandingError(
            f"{path}: the first line is no header in {table.encoding}: {error}; "
            "check the file and the declared encoding"
        ) from error
    return tuple(name.strip() for name in header), ()


def _check_width(path: Path, width: int, records: Iterable[list[str]]) -> None:
    """A file of which nearly no record fits the header is not read to its end for that."""
    widths: collections.Counter[int] = collections.Counter()
    try:
        widths.update(len(record) for record in records if record)
    except csv.Error:
        return
    total = widths.total()
    if total >= _MIN_SAMPLE and widths[width] < total * _MIN_FITTING_SHARE:
        common = widths.most_common(1)[0][0]
        raise LandingError(
            f"{path}: its header has {width} fields, its records have {common}; check the declared "
            "delimiter, or have the engine write it again"
        )


def _read_jsonl_columns(path: Path, table: SourceTable) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys of the first records; a key that none of them has is a missing column."""
    names: dict[str, None] = {}
    try:
        with path.open(encoding=_PYTHON_ENCODINGS[table.encoding], errors="replace") as text:
            for line in itertools.islice(text, _SAMPLED_RECORDS):
                try:
                    record: Any = json.loads(line)
                except ValueError:
                    continue
                if isinstance(record, dict):
                    names.update(dict.fromkeys(record))
    except (OSError, UnicodeError) as error:
        raise LandingError(f"{path}: can't be read as {table.encoding}: {error}") from error
    if not names:
        raise LandingError(
            f"{path}: none of its first {_SAMPLED_RECORDS} lines is a JSON object; JSON Lines hold "
            "one object a line"
        )
    return tuple(names), ()


def _read_parquet_columns(
    path: Path, _table: SourceTable
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        with plain_path(path) as plain, duckdb.connect() as connection:
            rows = connection.execute(
                "describe select * from read_parquet(?)", [str(plain)]
            ).fetchall()
    except duckdb.Error as error:
        raise LandingError(f"{path}: no readable Parquet file: {first_line(error)}") from error
    return tuple(row[0] for row in rows), tuple(row[1] for row in rows)


@contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """The file under a path that DuckDB does not take for a pattern, in a private folder."""
    with tempfile.TemporaryDirectory(prefix="oversight-") as folder:
        link = Path(folder) / "extract"
        link.symlink_to(path.absolute())
        yield link


_READERS: dict[Format, Callable[[Path, SourceTable], tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "csv": _read_csv_header,
    "jsonl": _read_jsonl_columns,
    "parquet": _read_parquet_columns,
}


def _check_columns(path: Path, table: SourceTable, columns: Sequence[str]) -> None:
    needed = [column.name for column in table.columns if not column.is_optional]
    if table.organization_column and table.organization_column not in needed:
        needed.append(table.organization_column)
    missing = [name for name in needed if name not in columns]
    if missing:
        hint = ""
        if len(columns) == 1:
            others = [mark for mark in _DELIMITERS if mark in columns[0]]
            if others:
                hint = f"; its delimiter seems to be {others[0]!r}, not {table.delimiter!r}"
        raise LandingError(
            f"{path}: it lacks the declared column{'s' if len(missing) > 1 else ''} "
            f"{', '.join(missing)}{hint}"
        )
    doubled = sorted({name for name in needed if list(columns).count(name) > 1})
    if doubled:
        raise LandingError(f"{path}: it has more than one column {', '.join(doubled)}")


def first_line(error: Exception) -> str:
    """What a library's error says, without its advice."""
    return str(error).strip().splitlines()[0]
