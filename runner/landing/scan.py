"""One pass over a file's bytes: what identifies it, and how many records its line ends make.

DuckDB's reader is counted against it. It loses records without a word where a line is hundreds of
megabytes long, or where a quote is never closed.
"""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from runner.landing.errors import LandingError

MAX_LINE_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_EMPTY_LINE = re.compile(rb"(?<=\n)\n")
_BLANK_LINE = re.compile(rb"(?<=\n)[ \t]*\n")


@dataclass(frozen=True, kw_only=True)
class Scan:
    """`records` are the counts that the file may have: by quotes, and by lines alone."""

    digest: str
    head: bytes
    has_nul: bool
    has_final_newline: bool
    records: frozenset[int]


@dataclass
class _LineCount:
    """Lines that are not blank, fed piece by piece."""

    blank: re.Pattern[bytes]
    lines: int = 0
    _last: bytes = b"\n"

    def feed(self, piece: bytes) -> None:
        if not piece:
            return
        text = self._last + piece
        self.lines += piece.count(b"\n")
        if b"\n\n" in text or (self.blank is _BLANK_LINE and self.blank.search(text)):
            self.lines -= len(self.blank.findall(text))
        self._last = piece[-1:]

    @property
    def total(self) -> int:
        return self.lines + (self._last != b"\n")


@dataclass
class _RecordCount:
    """All lines, and those that end outside quotes: one count until the first quote is met."""

    plain: _LineCount
    outside: _LineCount
    _is_quoted: bool = False
    _held: bytes = b""

    def feed(self, chunk: bytes, *, is_last: bool = False) -> None:
        chunk = self._held + chunk
        self._held = b""
        if chunk.endswith(b"\r") and not is_last:
            chunk, self._held = chunk[:-1], b"\r"
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self.outside is self.plain and b'"' in chunk:
            self.outside = dataclasses.replace(self.plain)
        self.plain.feed(chunk)
        if self.outside is self.plain:
            return
        pieces = chunk.split(b'"')
        start = int(self._is_quoted)
        mark = b'"' if self._is_quoted else b""
        self.outside.feed(mark + b'"'.join(pieces[start::2]))
        if len(pieces) % 2 == 0:
            self._is_quoted = not self._is_quoted
            self.outside.feed(b'"' if self._is_quoted else b"")


def scan(path: Path, *, encoding: str, is_text: bool, is_csv: bool) -> Scan:
    """Read the file once; LandingError when a line is longer than any record may be."""
    digest = hashlib.sha256()
    has_nul = False
    head = tail = b""
    blank = _EMPTY_LINE if is_csv else _BLANK_LINE
    lines = _LineCount(blank=blank)
    counts = _RecordCount(plain=lines, outside=lines)
    decoder = codecs.getincrementaldecoder("utf-16")(errors="replace")
    open_bytes = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            has_nul = has_nul or b"\x00" in chunk
            tail = chunk[-4:]
            if is_text:
                text = decoder.decode(chunk).encode() if encoding == "utf-16" else chunk
                counts.feed(text if head else text.removeprefix(codecs.BOM_UTF8))
                open_bytes = 0 if b"\n" in chunk or b"\r" in chunk else open_bytes + len(chunk)
                if open_bytes > MAX_LINE_BYTES:
                    raise LandingError(
                        f"{path}: a line is longer than {MAX_LINE_BYTES} bytes; look for a missing "
                        "line end"
                    )
            head = head or chunk
    counts.feed(b"", is_last=True)
    return Scan(
        digest=digest.hexdigest(),
        head=head,
        has_nul=has_nul,
        has_final_newline=tail.rstrip(b"\x00")[-1:] in (b"\n", b"\r"),
        records=frozenset((counts.outside.total, counts.plain.total)),
    )
