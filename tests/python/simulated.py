"""Reading simulated extracts back, by Python alone: the independent count of what was written."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

from runner.simulation.simulate import Report, Simulation

Row = dict[str, str]
Key = tuple[str, str, str]


def specification(path: Path, **changes: object) -> Simulation:
    small = Simulation(
        path=path, first_day=date(2026, 10, 20), last_day=date(2026, 11, 10), rows=1500
    )
    return replace(small, **changes)  # type: ignore[arg-type]


def rows(report: Report, table: str, folder: int | None = None) -> Iterator[Row]:
    """The records of a table in CSV, in the order in which a loader meets them."""
    for file in report.files:
        if file.table == table and (
            folder is None or report.folders[folder - 1] in file.path.parents
        ):
            with file.path.open(encoding="utf-8", newline="") as text:
                yield from csv.DictReader(text)


def identity(row: Row) -> tuple[str, str]:
    return row["organization_id"], row.get("spend_id") or row["event_id"]


def final(report: Report, table: str) -> dict[tuple[str, str], Row]:
    """The newest version of every record, withdrawn ones left out."""
    newest: dict[tuple[str, str], Row] = {}
    for row in rows(report, table):
        known = newest.get(identity(row))
        if known is None or row["updated_at"] > known["updated_at"]:
            newest[identity(row)] = row
    return {key: row for key, row in newest.items() if row["is_withdrawn"] == "false"}


def counted(report: Report) -> dict[Key, list[Decimal]]:
    """Spend, revenue, events, impressions and clicks per organization, day and partner."""
    totals: dict[Key, list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 5)
    for table in ("spend", "events"):
        for row in final(report, table).values():
            key = (row["organization_id"], row["occurred_at"][:10], row["partner_id"])
            if table == "spend":
                figures = [row["spend_amount"], "0", "0", row["impressions"], row["clicks"]]
            else:
                is_revenue = row["event_type"] == "revenue"
                figures = ["0", row["amount"] if is_revenue else "0", row["event_count"], "0", "0"]
            totals[key] = [a + Decimal(b) for a, b in zip(totals[key], figures, strict=True)]
    return dict(totals)


def controlled(report: Report, folder: int | None = None) -> dict[Key, list[Decimal]]:
    """The control totals of a folder, or of the last folder that has any."""
    last = [file for file in report.files if file.table == "control_totals"][-1]
    number = folder or report.folders.index(last.path.parent.parent) + 1
    names = ("spend_amount", "revenue_amount", "events", "impressions", "clicks")
    return {
        (row["organization_id"], row["day"], row["partner_id"]): [Decimal(row[n]) for n in names]
        for row in rows(report, "control_totals", number)
    }


def digest(path: Path) -> str:
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            found.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return found.hexdigest()
