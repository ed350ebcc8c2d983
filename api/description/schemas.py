"""The schemas of the OpenAPI document that no mart decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NULLABLE_TEXT: dict[str, Any] = {"type": ["string", "null"]}
DAY: dict[str, Any] = {"type": "string", "format": "date"}
INSTANT: dict[str, Any] = {"type": "string", "format": "date-time"}
NULLABLE_INSTANT: dict[str, Any] = {"type": ["string", "null"], "format": "date-time"}
_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_NULLABLE_COUNT: dict[str, Any] = {"type": ["integer", "null"], "minimum": 0}


def closed(
    properties: Mapping[str, Any], *, optional: tuple[str, ...] = (), description: str = ""
) -> dict[str, Any]:
    """An object with these members and no others, all of them required but the optional ones."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        **({"description": description} if description else {}),
        **({"required": required} if required else {}),
        "properties": dict(properties),
        "additionalProperties": False,
    }


def reference(name: str) -> dict[str, str]:
    """A reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Mapping[str, Any], description: str = "") -> dict[str, Any]:
    """An array of one schema."""
    schema: dict[str, Any] = {"type": "array", "items": dict(items)}
    return schema | ({"description": description} if description else {})


def either(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema, or null."""
    return {"oneOf": [dict(schema), {"type": "null"}]}


FRESHNESS: dict[str, Any] = {
    "last_refresh_at": {**NULLABLE_INSTANT, "description": "When the mart was last refreshed."},
    "data_through": {
        **NULLABLE_INSTANT,
        "description": "All extracts up to this time are in the mart.",
    },
    "sla_seconds": {**_COUNT, "description": "How long landed data may wait."},
    "late_after": {
        **NULLABLE_INSTANT,
        "description": "When what waits now breaks the SLA; null when nothing waits.",
    },
    "status": {
        "type": "string",
        "enum": ["fresh", "late", "never"],
        "description": "Whether the SLA is kept; never: the mart has not been refreshed yet.",
    },
    "parity": {
        "type": "string",
        "enum": ["ok", "failed", "unchecked"],
        "description": "Whether figures in scope and window agree with the engines' own totals.",
    },
    "is_stale": {
        "type": "boolean",
        "description": "True while the database is away and this is the last answer known.",
    },
}
FRESHNESS_EXAMPLE: dict[str, Any] = {
    "last_refresh_at": "2026-11-30T13:57:31.092244Z",
    "data_through": "2026-11-30T13:45:00.000000Z",
    "sla_seconds": 900,
    "late_after": None,
    "status": "fresh",
    "parity": "ok",
    "is_stale": False,
}
_RUN: dict[str, Any] = {
    "run_id": {"type": "integer", "format": "int64"},
    "job_name": _TEXT,
    "scheduled_for": NULLABLE_INSTANT,
    "started_at": INSTANT,
    "finished_at": NULLABLE_INSTANT,
    "status": _TEXT,
    "rows_affected": {
        "type": ["integer", "null"],
        "format": "int64",
        "description": "Null for callers who do not see all organizations.",
    },
    "error_message": {
        **NULLABLE_TEXT,
        "description": "For those who may operate and see all organizations.",
    },
    "models": _TEXTS,
}
RUN_EXAMPLE: dict[str, Any] = {
    "run_id": 4711,
    "job_name": "daily_metrics",
    "scheduled_for": "2026-11-30T13:45:00.000000Z",
    "started_at": "2026-11-30T13:57:30.510000Z",
    "finished_at": "2026-11-30T13:57:31.101000Z",
    "status": "success",
    "rows_affected": None,
    "error_message": None,
    "models": ["fact_spend", "daily_metrics"],
}
_PROBLEM: dict[str, Any] = {
    "type": {"type": "string", "format": "uri", "description": "Stable, for programs."},
    "title": _TEXT,
    "status": {"type": "integer", "minimum": 400, "maximum": 599},
    "detail": {"type": "string", "description": "What is wrong and what to change, for people."},
    "request_id": _TEXT,
    "errors": array(
        closed({"parameter": _TEXT, "message": _TEXT}), "Every parameter that is wrong, and why."
    ),
    "known_parameters": {**_TEXTS, "description": "The parameters that there are."},
    "known_media_types": {**_TEXTS, "description": "The media types that there are."},
    "max_days": {**_COUNT, "description": "The longest window."},
    "missing": {**_TEXTS, "description": "What /health/ready waits for: database, catalogue."},
}
_MART: dict[str, Any] = {
    "name": _TEXT,
    "path": _TEXT,
    "operation_id": {"type": "string", "description": "Its operation here, and the agents' tool."},
    "description": _TEXT,
    "grain": {**_TEXTS, "description": "The columns that name a row, in the order of the rows."},
    "columns": array(
        closed(
            {
                "name": _TEXT,
                "data_type": {"type": "string", "description": "PostgreSQL's name of the type."},
                "is_nullable": {"type": "boolean"},
                "description": _TEXT,
            }
        )
    ),
    "parameters": array(
        closed(
            {
                "name": _TEXT,
                "description": _TEXT,
                "kind": {
                    "type": "string",
                    "enum": ["string", "integer", "number", "boolean", "array"],
                    "description": "An array is written with commas between its items.",
                },
                "format": NULLABLE_TEXT,
                "values": either({**_TEXTS, "description": "All values that there are."}),
                "minimum": {"type": ["integer", "null"], "format": "int64"},
                "maximum": {"type": ["integer", "null"], "format": "int64"},
                "max_length": _NULLABLE_COUNT,
            }
        )
    ),
    "window": either(
        closed(
            {
                "column": _TEXT,
                "kind": {"type": "string", "enum": ["day", "week"]},
                "default_days": _COUNT,
                "max_days": _COUNT,
            },
            description="The time window of a read; null where there is none.",
        )
    ),
    "page_size": closed({"default": _COUNT, "maximum": _COUNT}),
    "media_types": {**_TEXTS, "description": "What the Accept header may ask for."},
    "max_whole_rows": {
        **_COUNT,
        "description": "A window of more rows is refused in CSV and NDJSON, unless paged.",
    },
    "cadence": {
        **NULLABLE_TEXT,
        "description": "When it is refreshed, a cron line in UTC; null where it is always current.",
    },
    "freshness_sla_seconds": _COUNT,
    "is_parity_checked": {
        "type": "boolean",
        "description": "Whether its own figures are compared with the engines' totals.",
    },
    "freshness": reference("Freshness"),
}
_WINDOW: dict[str, Any] = {
    "from": DAY,
    "to": DAY,
}

SCHEMAS: dict[str, dict[str, Any]] = {
    "Freshness": closed(FRESHNESS, description="How fresh and how well checked an answer is."),
    "Window": closed(_WINDOW, description="The days that were answered, both inclusive."),
    "Problem": closed(
        _PROBLEM,
        optional=("errors", "known_parameters", "known_media_types", "max_days", "missing"),
        description="RFC 9457 problem details.",
    ),
    "Mart": closed(_MART, description="A mart: what it holds and what it may be asked."),
    "View": closed(
        {"view": _TEXT, "path": _TEXT, **FRESHNESS},
        description="How fresh one mart is for the caller.",
    ),
    "Run": closed(_RUN, description="One run of a job."),
}
