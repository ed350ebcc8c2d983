"""The schemas of pulls and backfills in the OpenAPI document, with an example of each."""

from __future__ import annotations

from typing import Any

from api.description.schemas import INSTANT, NULLABLE_INSTANT, NULLABLE_TEXT, array, closed

_TEXT: dict[str, Any] = {"type": "string"}
_DAY = {"type": "string", "format": "date"}
_COUNT = {"type": "integer", "format": "int64", "minimum": 0}
ID = {"type": "integer", "format": "int64", "minimum": 1, "maximum": 10**18 - 1}
_NULLABLE_COUNT = {"type": ["integer", "null"], "format": "int64", "minimum": 0}
_WEEK = {"type": "string", "pattern": "^[0-9]{4}-W[0-9]{2}$"}
_NULLABLE_WEEK = {"type": ["string", "null"], "pattern": "^[0-9]{4}-W[0-9]{2}$"}
_BACKFILL: dict[str, Any] = {
    "id": ID,
    "engine": _TEXT,
    "status": {
        "type": "string",
        "enum": ["pending", "running", "paused", "done", "failed", "cancelled"],
    },
    "first_week": {**_WEEK, "description": "The ISO week of the first day that was asked for."},
    "last_week": _WEEK,
    "from": {**_DAY, "description": "The Monday of the first week."},
    "to": {**_DAY, "description": "The Sunday of the last week."},
    "weeks": _COUNT,
    "weeks_done": _COUNT,
    "weeks_skipped": {**_COUNT, "description": "The engine gave no rows; they count as done."},
    "weeks_failed": _COUNT,
    "weeks_left": _COUNT,
    "percent": {"type": "number", "minimum": 0, "maximum": 100},
    "running_week": _NULLABLE_WEEK,
    "failed_weeks": array(_WEEK),
    "rows_landed": _COUNT,
    "rows_rejected": _COUNT,
    "requested_by": _TEXT,
    "error_message": NULLABLE_TEXT,
    "requested_at": INSTANT,
    "started_at": NULLABLE_INSTANT,
    "finished_at": NULLABLE_INSTANT,
}
_LEDGER = closed(
    {
        "week": _WEEK,
        "status": {"type": "string", "enum": ["pending", "running", "done", "failed", "skipped"]},
        "attempts": _COUNT,
        "batch_id": _NULLABLE_COUNT,
        "rows_landed": _NULLABLE_COUNT,
        "rows_rejected": _NULLABLE_COUNT,
        "landed_checksum": NULLABLE_TEXT,
        "mart_checksums": {"type": ["object", "null"], "additionalProperties": _TEXT},
        "started_at": NULLABLE_INSTANT,
        "finished_at": NULLABLE_INSTANT,
        "error_message": NULLABLE_TEXT,
    },
    description="One week; done when the marts hold it.",
)
_JOB_STATUS = {"type": "string", "enum": ["pending", "running", "done", "failed", "cancelled"]}
_PULL_OF_ENGINE = closed(
    {
        "engine": _TEXT,
        "status": _JOB_STATUS,
        "run_id": _NULLABLE_COUNT,
        "run_status": {
            **NULLABLE_TEXT,
            "description": "Of its run; skipped_overlap: another pull of the engine was under way.",
        },
        "rows_affected": _NULLABLE_COUNT,
        "finished_at": NULLABLE_INSTANT,
        "error_message": NULLABLE_TEXT,
    }
)
_PULL = {
    "id": ID,
    "status": {**_JOB_STATUS, "description": "Of all its engines together."},
    "requested_by": _TEXT,
    "requested_at": INSTANT,
    "engines": array(_PULL_OF_ENGINE),
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "Backfill": closed(_BACKFILL, description="Weeks of an engine that are asked for again."),
    "BackfillLedger": closed(
        {**_BACKFILL, "ledger": array(_LEDGER)}, description="A backfill, week by week."
    ),
    "Pull": closed(_PULL, description="Engines that are asked for what is new."),
}
BACKFILL_EXAMPLE: dict[str, Any] = {
    "id": 3,
    "engine": "oversight",
    "status": "running",
    "first_week": "2026-W02",
    "last_week": "2026-W03",
    "from": "2026-01-05",
    "to": "2026-01-18",
    "weeks": 2,
    "weeks_done": 1,
    "weeks_skipped": 0,
    "weeks_failed": 0,
    "weeks_left": 1,
    "percent": 50.0,
    "running_week": "2026-W03",
    "failed_weeks": [],
    "rows_landed": 1200,
    "rows_rejected": 0,
    "requested_by": "nightly-job",
    "error_message": None,
    "requested_at": "2026-11-30T13:57:30.510000Z",
    "started_at": "2026-11-30T13:57:31.090000Z",
    "finished_at": None,
}
LEDGER_EXAMPLE: dict[str, Any] = {
    "week": "2026-W02",
    "status": "done",
    "attempts": 1,
    "batch_id": 88,
    "rows_landed": 1200,
    "rows_rejected": 0,
    "landed_checksum": "9e107d9d372bb6826bd81d3542a419d6",
    "mart_checksums": {"daily_metrics": "e4d909c290d0fb1ca068ffaddf22cbd0"},
    "started_at": "2026-11-30T13:57:31.100000Z",
    "finished_at": "2026-11-30T13:57:39.800000Z",
    "error_message": None,
}
PULL_EXAMPLE: dict[str, Any] = {
    "id": 17,
    "status": "done",
    "requested_by": "nightly-job",
    "requested_at": "2026-11-30T13:57:30.510000Z",
    "engines": [
        {
            "engine": "oversight",
            "status": "done",
            "run_id": 4711,
            "run_status": "success",
            "rows_affected": 120,
            "finished_at": "2026-11-30T13:57:34.000000Z",
            "error_message": None,
        }
    ],
}
