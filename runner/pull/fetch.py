"""Fetching a table page by page into extract files; what repeats or never ends is found out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.pull.client import Answer, Client
from runner.pull.errors import PassingError, PullError
from runner.pull.pages import Page, read_page
from warehouse.declared import SourceTable
from warehouse.declared_endpoints import extract_name
from warehouse.endpoints import Endpoint


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """How much of a table came, in how many pages, and as of when it is said to be true."""

    rows: int
    pages: int
    as_of: str | None = None


def fetch_table(
    client: Client,
    table: SourceTable,
    endpoint: Endpoint,
    parameters: Mapping[str, str],
    *,
    folder: Path,
    mark: str,
) -> Fetched:
    """Write all pages of a table into files of `folder`, with control files that count them.

    `mark` is in the files' names. A table without rows gets no file.
    """
    what = f"{table.engine}.{table.name}"
    paging = endpoint.paging
    asked = dict(parameters)
    if paging and paging.size_parameter:
        asked[paging.size_parameter] = str(paging.size)
    if paging and paging.kind == "page":
        asked[paging.parameter] = str(paging.first)
    writer = _Writer(table, endpoint, folder, mark)
    seen: dict[str, int] = {}
    cursors: set[str] = set()
    for number in range(1, endpoint.max_pages + 1):

        def read(answer: Answer) -> Page:
            page = read_page(answer, table, endpoint)
            if page.rows and page.digest in seen:
                earlier = seen[page.digest]
                raise PassingError(f"the answer repeats page {earlier}")
            if page.next is not None and page.next in cursors:
                raise PassingError("the answer names a next page that was read already")
            return page

        page = client.ask(endpoint, asked, what=f"{what}, page {number}", read=read)
        writer.add(page, number)
        seen[page.digest] = number
        if paging is None or (paging.kind == "page" and not page.rows):
            break
        if paging.kind == "page":
            asked[paging.parameter] = str(paging.first + number)
        elif page.next is None:
            break
        else:
            cursors.add(page.next)
            asked[paging.parameter] = page.next
    else:
        raise PullError(
            f"{what}: more than max_pages, {endpoint.max_pages:,}, came and there is no end; "
            "nothing landed; ask for larger pages or declare more"
        )
    writer.finish()
    return Fetched(rows=writer.rows, pages=number, as_of=page.as_of)


class _Writer:
    """Writes what came: JSON Lines into one file, CSV into one a page, as each has its header."""

    def __init__(self, table: SourceTable, endpoint: Endpoint, folder: Path, mark: str) -> None:
        self._table = table
        self._endpoint = endpoint
        self._folder = folder
        self._mark = mark
        self._said: tuple[str | None, str | None, str | None] | None = None
        self._counts: dict[Path, int] = {}

    @property
    def rows(self) -> int:
        """Rows of all pages so far."""
        return sum(self._counts.values())

    def add(self, page: Page, number: int) -> None:
        """Append a page; all pages of a snapshot are of one moment and one window."""
        said = (page.as_of, page.from_day, page.to_day)
        if self._said not in (None, said):
            raise PullError(
                f"{self._table.engine}.{self._table.name}: page {number} is as of {said[0]} for "
                f"{said[1]} to {said[2]}, the first one was not; nothing landed, the next pull "
                "asks again"
            )
        self._said = said
        if not page.rows:
            return
        is_csv = self._endpoint.format == "csv"
        mark = f"{self._mark}_{number:05}" if is_csv else self._mark
        name = extract_name(self._table.files, self._endpoint.format, mark)
        assert name is not None, "the declaration was checked"
        path = self._folder / name
        with path.open("ab") as file:
            file.write(page.text)
        self._counts[path] = self._counts.get(path, 0) + page.rows

    def finish(self) -> None:
        """Write the control files."""
        as_of, from_day, to_day = self._said or (None, None, None)
        for path, rows in self._counts.items():
            control: dict[str, Any] = {"records": rows}
            if as_of is not None:
                control["as_of"] = as_of
            if from_day is not None and to_day is not None:
                control["window"] = {"from": from_day, "to": to_day}
            path.with_name(f"{path.name}.control.json").write_text(
                json.dumps(control) + "\n", encoding="utf-8"
            )
