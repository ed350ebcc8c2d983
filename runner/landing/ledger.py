"""The ledgers of landing: what each batch is, and what it holds of which table and organization."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import date

from psycopg2.extensions import cursor as Cursor

from runner.landing.tables import FileCount, TableBatch

Window = tuple[date, date]
"""The first and the last day that a backfill asked for, both included."""


@dataclass(kw_only=True)
class LoadReport:
    """What became of one engine's folder; `batch_id` is None when nothing was new.

    A backfill brings old data anew and says nothing of how fresh the engine is.
    """

    engine: str
    batch_id: int | None = None
    status: str = "landed"
    files: list[FileCount] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    voided: int = 0
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    is_backfill: bool = False

    @property
    def is_clean(self) -> bool:
        """Whether everything landed, but for records of closed days, or nothing was new."""
        return self.status == "landed" and not any(count.rejected for count in self.files)


def open_batch(
    cursor: Cursor, engine: str, status: str, origin: str, window: Window | None
) -> tuple[int, str]:
    """Enter a batch from a folder or an address; gives back its number and its time.

    `window` is what days a backfill asked for, by which it knows the batch again.
    """
    cursor.execute(
        "insert into metadata.batches (engine, status, path, window_from, window_to) "
        "values (%s, %s, %s, %s, %s) returning batch_id, landed_at::text",
        (engine, status, origin, *(window or (None, None))),
    )
    row = cursor.fetchone()
    assert row is not None
    return int(row[0]), str(row[1])


def close_batch(cursor: Cursor, report: LoadReport) -> None:
    """Keep the report with its batch."""
    content = dataclasses.asdict(report)
    for name in ("engine", "batch_id", "status"):
        del content[name]
    cursor.execute(
        "update metadata.batches set report = %s where batch_id = %s",
        (json.dumps(content), report.batch_id),
    )


def record_table(cursor: Cursor, batch: TableBatch, *, is_backfill: bool) -> None:
    """What the batch holds per organization, those included whose records were all unchanged."""
    table = batch.table
    for organization, total in batch.organizations.items():
        cursor.execute(
            "insert into metadata.batch_tables (batch_id, engine, source_table, organization_id, "
            "accepted, voided, extracted_through, is_backfill) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                batch.batch_id,
                table.engine,
                table.name,
                organization,
                total.accepted,
                total.voided,
                total.extracted_through,
                is_backfill,
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
