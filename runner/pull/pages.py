"""What an answer holds: its rows as an extract's text, where the next page is, what it is as of."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any

from runner.pull.client import Answer, shown_start
from runner.pull.errors import PassingError, PullError
from warehouse.declared import SourceTable
from warehouse.endpoints import Endpoint, Place


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page; `text` is a file of JSON Lines or CSV, `digest` tells whether it came before."""

    text: bytes
    rows: int
    digest: str
    next: str | None = None
    as_of: str | None = None
    from_day: str | None = None
    to_day: str | None = None


def read_page(answer: Answer, table: SourceTable, endpoint: Endpoint) -> Page:
    """Understand an answer; PassingError when it seems cut, PullError when it is another thing."""
    body: Any = None
    if endpoint.format == "json":
        body = _parsed(answer)
        text, rows = _json_lines(body, endpoint)
    else:
        if not answer.is_bounded:
            raise PullError(
                "the answer has neither Content-Length nor chunks, so that nobody can tell "
                "whether it was cut"
            )
        text, rows = _lines(answer) if endpoint.format == "jsonl" else _csv(answer, table)
    paging, answered = endpoint.paging, endpoint.answered
    return Page(
        text=text,
        rows=rows,
        digest=hashlib.sha256(text).hexdigest(),
        next=_said(answer, body, paging.next) if paging else None,
        as_of=_said(answer, body, answered.as_of) if answered else None,
        from_day=_said(answer, body, answered.from_day) if answered else None,
        to_day=_said(answer, body, answered.to_day) if answered else None,
    )


def _parsed(answer: Answer) -> Any:
    """The JSON document; numbers with a point stay as they are written, digit for digit."""
    try:
        return json.loads(answer.body.decode("utf-8-sig"), parse_float=str, parse_constant=_refuse)
    except RecursionError as error:
        raise PullError("the answer is JSON of too many levels") from error
    except ValueError as error:
        start = shown_start(answer.body, answer.hide)
        raise PassingError(f"the answer is no whole JSON document ({error}): {start}") from error


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _json_lines(body: Any, endpoint: Endpoint) -> tuple[bytes, int]:
    found = body
    for key in (endpoint.rows or "").split(".") if endpoint.rows else ():
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list):
        where = f"below {endpoint.rows!r}" if endpoint.rows else "as its document"
        raise PullError(f"the answer has no list of rows {where}")
    return "".join(json.dumps(row) + "\n" for row in found).encode(), len(found)


def _lines(answer: Answer) -> tuple[bytes, int]:
    lines = [line for line in answer.body.splitlines() if line.strip()]
    if lines:
        try:
            json.loads(lines[-1])
        except ValueError as error:
            start = shown_start(lines[-1], answer.hide)
            raise PassingError(f"the last line is no whole JSON object: {start}") from error
    return b"".join(line + b"\n" for line in lines), len(lines)


def _csv(answer: Answer, table: SourceTable) -> tuple[bytes, int]:
    encoding = "utf-8-sig" if table.encoding == "utf-8" else table.encoding
    try:
        text = io.StringIO(answer.body.decode(encoding), newline="")
        records = sum(1 for record in csv.reader(text, delimiter=table.delimiter) if record)
    except (UnicodeDecodeError, csv.Error) as error:
        raise PullError(f"the answer is no CSV in {table.encoding}: {error}") from error
    return answer.body, max(records - 1, 0)


def _said(answer: Answer, body: Any, place: Place | None) -> str | None:
    """The value at a place; None where it says nothing."""
    if place is None:
        return None
    if place.kind == "header":
        return answer.headers.get(place.name) or None
    found = body
    for key in place.name.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    if found is None or found is False or found == "":
        return None
    if not isinstance(found, (str, int)):
        raise PullError(f"{place.name!r} in the answer is neither text nor number")
    return str(found)
