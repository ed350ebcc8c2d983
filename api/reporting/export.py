"""A mart as CSV or NDJSON: the whole window or one page, from one snapshot, in flat memory.

The rows go to a temporary file as fast as the database gives them, and from there to the caller:
so a slow caller holds no connection, what fails is a problem and no cut answer, and the headers
know how it ends.
"""

from __future__ import annotations

import errno
import hashlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from psycopg2.sql import SQL, Composable, Identifier, Literal

from api.access.auth import Principal
from api.access.scope import reading_as
from api.database.pool import Ask, Pool
from api.problems import ParameterError, bad_request, unavailable
from api.reporting import formats, query
from api.reporting.deployed import ServedMart
from api.reporting.freshness import instant
from api.reporting.paging import Position
from api.reporting.parameters import Request
from warehouse.catalogue import MartColumn

MOST_ROWS = 100_000
MOST_BYTES = 64 * 1024 * 1024
_IN_MEMORY_BYTES = 1024 * 1024
_ROWS_AT_ONCE = 2000
_BLOCK_BYTES = 64 * 1024
_UNQUOTED = ("smallint", "integer", "int", "bigint", "numeric", "double precision", "real", "date",
             "boolean")  # fmt: skip

_BEGIN = SQL("""
begin isolation level repeatable read;
{reading_as}
declare rows_of_answer no scroll cursor for
with {bounds}
select {line}, {position} from {relation} as m {where} order by {order} limit {limit};
with {bounds}
select bounds.first::text, bounds.last::text, json_build_object({freshness})::text
from times cross join bounds
""")
_FETCH = SQL("fetch forward {} from rows_of_answer").format(Literal(_ROWS_AT_ONCE))
# Spreadsheets run a text that begins so as a formula; behind an apostrophe they show it.
_TEXT = SQL("""'"' || replace(case
    when left({column}, 1) = any (array['=', '+', '-', '@', e'\\t', e'\\r', e'\\n'])
    then '''' || {column} else {column}
end, '"', '""') || '"'""")


@dataclass(kw_only=True)
class Export:
    """An answer in a file, from its beginning; `freshness` is JSON as PostgreSQL built it."""

    content: IO[bytes]
    size: int
    digest: str
    rows: int
    freshness: str
    window: tuple[str, str] | None
    next_position: Position | None

    def blocks(self) -> Iterator[bytes]:
        """The content, piece by piece."""
        while block := self.content.read(_BLOCK_BYTES):
            yield block


def read(
    pool: Pool,
    served: ServedMart,
    request: Request,
    principal: Principal,
    position: Position | None,
    *,
    media_type: str,
    timeout_ms: int,
) -> Export:
    """The rows after `position`, of one page if the request says how large, else all there are.

    A problem (400) when all are more than MOST_ROWS or MOST_BYTES; (503) as of any read, and when
    there is no room for the file.
    """
    begin = _message(served, request, principal, position, media_type, timeout_ms)
    until = time.monotonic() + timeout_ms / 1000

    def work(ask: Ask) -> Export:
        ((first, last, freshness),) = ask(begin)
        content = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115
        try:
            rows, after = _spool(ask, content, request, media_type, until)
            size, digest = content.tell(), _digest_of(content)
        except BaseException:
            content.close()
            raise
        window = (first, last) if served.mart.window is not None else None
        return Export(
            content=content,
            size=size,
            digest=digest,
            rows=rows,
            freshness=freshness,
            window=window,
            next_position=query.position_of(after, window),
        )

    try:
        return pool.in_transaction(work)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise unavailable(
            "no-room", "there is no room to put the answer together", retry_after_seconds=30
        ) from error


def _spool(
    ask: Ask, content: IO[bytes], request: Request, media_type: str, until: float
) -> tuple[int, str | None]:
    """Write all lines; gives back how many, and the place of the last if there are more."""
    if media_type == formats.CSV:
        content.write(",".join(column.name for column in request.columns).encode() + b"\r\n")
    count, last_place = 0, None
    while rows := ask(_FETCH):
        if time.monotonic() > until:
            raise unavailable(
                "timeout",
                "the database took too long; ask for less or try again",
                retry_after_seconds=5,
            )
        for line, place in rows:
            if count == request.page_size:
                return count, last_place
            content.write(line.encode())
            count, last_place = count + 1, place
        if count > MOST_ROWS or content.tell() > MOST_BYTES:
            message = (
                f"the window holds more than {MOST_ROWS} rows or {MOST_BYTES >> 20} MiB; ask for"
                " fewer days, or for pages: give page_size and go on with the Link header"
            )
            raise bad_request([ParameterError(parameter="page_size", message=message)])
    return count, None


def _digest_of(content: IO[bytes]) -> str:
    """The hash of what was written, with the file at its beginning again."""
    content.seek(0)
    digest = hashlib.blake2b(digest_size=16)
    while block := content.read(_BLOCK_BYTES):
        digest.update(block)
    content.seek(0)
    return digest.hexdigest()


def _message(
    served: ServedMart,
    request: Request,
    principal: Principal,
    position: Position | None,
    media_type: str,
    timeout_ms: int,
) -> Composable:
    most = MOST_ROWS if request.page_size is None else request.page_size
    parts = query.parts(served, request, principal, position)
    place: Composable = SQL("null")
    if request.page_size is not None:
        place = SQL("json_build_array({})::text").format(
            SQL(", ").join(SQL("{}::text").format(Identifier("m", n)) for n in served.mart.grain)
        )
    line = _csv_line if media_type == formats.CSV else _json_line
    return _BEGIN.format(
        **parts,
        reading_as=reading_as(
            principal,
            scope_names=served.mart.scope,
            timeout_ms=timeout_ms,
            mart=served.mart.name,
        ),
        line=line(request.columns),
        position=place,
        limit=Literal(most + 1),
    )


def _csv_line(columns: tuple[MartColumn, ...]) -> Composable:
    """RFC 4180: texts always quoted, so that NULL (nothing) is told from an empty text."""
    return SQL("concat_ws(',', {}) || e'\\r\\n'").format(
        SQL(", ").join(SQL("coalesce({}, '')").format(_csv_value(column)) for column in columns)
    )


def _csv_value(column: MartColumn) -> Composable:
    identifier = Identifier("m", column.name)
    if column.data_type in query.INSTANTS:
        return instant(identifier)
    if column.data_type.split("(")[0] in _UNQUOTED:
        return SQL("{}::text").format(identifier)
    return _TEXT.format(column=SQL("{}::text").format(identifier))


def _json_line(columns: tuple[MartColumn, ...]) -> Composable:
    return SQL("(select row_to_json(r)::text || e'\\n' from (select {}) as r)").format(
        SQL(", ").join(query.shown(column, "m") for column in columns)
    )
