"""What a mart's endpoint takes and answers, from its declaration: schemas, examples, links."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from api.description.operations import READ_REFUSALS, Described, Operation, json_answer
from api.description.schemas import DAY, FRESHNESS, FRESHNESS_EXAMPLE, array, closed, reference
from api.reporting import export, formats, listing
from api.reporting.deployed import ServedMart
from api.state import PREFIX
from warehouse.catalogue import MartColumn

REFUSALS = (*READ_REFUSALS, 404)
_COLUMN_TYPES: dict[str, dict[str, str]] = {
    "date": {"type": "string", "format": "date"},
    "timestamptz": {"type": "string", "format": "date-time"},
    "timestamp with time zone": {"type": "string", "format": "date-time"},
    "smallint": {"type": "integer"},
    "integer": {"type": "integer"},
    "int": {"type": "integer"},
    "bigint": {"type": "integer", "format": "int64"},
    "numeric": {"type": "number"},
    "double precision": {"type": "number"},
    "boolean": {"type": "boolean"},
    "jsonb": {},
    "json": {},
}
# A Monday, so that it fits a week too.
_EXAMPLES: dict[str | None, Any] = {
    "date": "2026-11-02",
    "date-time": "2026-11-02T10:15:00.000000Z",
    "integer": 1200,
    "number": 745.15,
    "boolean": True,
}
_CSV_TEXT = (
    "RFC 4180 with a header line. Texts are quoted, NULL is nothing; a text that spreadsheets would"
    " run as a formula (it begins with =, +, -, @, a tab or a line break) has an apostrophe before."
)
_FORMATS_TEXT = (
    "In JSON a page; in CSV and NDJSON the whole window, or a page if `page_size` is given. A whole"
    f" window of more than {export.MOST_ROWS} rows is refused (400), never cut."
)


def _told(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": f"{description} In CSV and NDJSON answers.", "schema": schema}


EXPORT_HEADERS: dict[str, Described] = {
    "Link": {
        "description": 'The address of the next page, `rel="next"`; none on the last page.',
        "schema": {"type": "string"},
    },
    **{
        formats.header_name(name): _told(
            {key: value for key, value in schema.items() if key != "description"}
            | {"type": "string" if isinstance(schema["type"], list) else schema["type"]},
            schema["description"],
        )
        for name, schema in FRESHNESS.items()
    },
    "Oversight-Window-From": _told(DAY, "The first day of the window."),
    "Oversight-Window-To": _told(DAY, "The last day of the window."),
    "Oversight-Row-Count": _told({"type": "integer", "minimum": 0}, "How many rows follow."),
    "Oversight-Next-Page": _told(
        {"type": "string"}, "The token of the next page, if there is one."
    ),
}
_GRAIN_TEXT = (
    "Rows are of the organizations that the key sees: a key of one organization has one row per"
    " grain, a key of several has one for each organization."
)
_WINDOW_EXAMPLE = {"from": "2026-11-02", "to": "2026-11-08"}


def operation(served: ServedMart, parameters: list[dict[str, Any]]) -> Operation:
    """GET of one mart; `parameters` describe its marshmallow schema."""
    mart = served.mart
    page = reference(f"{mart.name}_page")
    title = mart.name.replace("_", " ")
    return Operation(
        path=f"{PREFIX}/{mart.path}",
        operation_id=listing.operation_id(served),
        summary=f"Read {title}",
        description=f"{mart.description} {_GRAIN_TEXT} {_FORMATS_TEXT}",
        tag="marts",
        parameters=[_with_example(served, item) for item in parameters],
        refusals=REFUSALS,
        answers={
            200: {
                "description": "The rows, with their window and how fresh and checked they are.",
                "content": {
                    formats.JSON: {"schema": page, "example": page_example(served)},
                    formats.CSV: {
                        "schema": {"type": "string", "description": _CSV_TEXT},
                        "example": _csv_example(served),
                    },
                    formats.NDJSON: {
                        "schema": {
                            "type": "string",
                            "description": f"A line of JSON per row, each one {mart.name}_row.",
                        },
                        "example": json.dumps(_row_example(served)) + "\n",
                    },
                },
                "headers": EXPORT_HEADERS,
            }
        },
    )


def list_operation(marts: Sequence[ServedMart]) -> Operation:
    """GET of what there is."""
    example = [
        {**listing.describe(served), "freshness": _freshness_example(served)}
        for served in marts[:1]
    ]
    return Operation(
        path=f"{PREFIX}/marts",
        operation_id="list_marts",
        summary="List the marts",
        description=(
            "The marts that the caller may read: grain, columns, parameters, limits, and how fresh"
            " each is for the caller."
        ),
        tag="metadata",
        answers={
            200: json_answer(
                "The marts.", closed({"data": array(reference("Mart"))}), {"data": example}
            )
        },
    )


def schemas(served: ServedMart) -> dict[str, dict[str, Any]]:
    """The component schemas of a mart: its row and its page."""
    mart = served.mart
    columns = served.parameters.columns
    row = closed(
        {column.name: column_schema(column) for column in columns},
        optional=tuple(column.name for column in columns),
        description=f"{mart.description} {_GRAIN_TEXT} All members are there, unless `fields` names"
        " some.",
    )
    page = closed(
        {
            "data": {"type": "array", "items": reference(f"{mart.name}_row")},
            "next_page": {
                "type": ["string", "null"],
                "description": "The token of the next page, for `page`; null on the last page.",
            },
            "window": reference("Window") if mart.window is not None else {"type": "null"},
            "freshness": reference("Freshness"),
        },
        description="One page of rows, in the order of the grain.",
    )
    return {f"{mart.name}_row": row | {"minProperties": 1}, f"{mart.name}_page": page}


def column_schema(column: MartColumn) -> dict[str, Any]:
    """A column as it is answered in JSON."""
    schema: dict[str, Any] = dict(
        _COLUMN_TYPES.get(column.data_type.split("(")[0], {"type": "string"})
    )
    if not column.is_required and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    return schema | {"description": column.description}


def page_example(served: ServedMart) -> dict[str, Any]:
    """A page of one row."""
    return {
        "data": [_row_example(served)],
        "next_page": None,
        "window": None if served.mart.window is None else _WINDOW_EXAMPLE,
        "freshness": _freshness_example(served),
    }


def _freshness_example(served: ServedMart) -> dict[str, Any]:
    return FRESHNESS_EXAMPLE | {"sla_seconds": served.mart.freshness_sla_seconds}


def _row_example(served: ServedMart) -> dict[str, Any]:
    return {column.name: _example(column) for column in served.parameters.columns}


def _csv_example(served: ServedMart) -> str:
    row = _row_example(served)
    values = (f'"{v}"' if served.mart.column(n).data_type == "text" else v for n, v in row.items())
    return ",".join(row) + "\r\n" + ",".join(map(str, values)) + "\r\n"


def _example(column: MartColumn) -> Any:
    if column.values:
        return column.values[0]
    kind = _COLUMN_TYPES.get(column.data_type.split("(")[0], {"type": "string"})
    for name in (kind.get("format"), kind.get("type")):
        if name in _EXAMPLES:
            return _EXAMPLES[name]
    return f"{column.name.removesuffix('_id')}-1"


def _with_example(served: ServedMart, parameter: dict[str, Any]) -> dict[str, Any]:
    """The parameter with a value that works together with those of the others."""
    name = parameter["name"]
    window = served.mart.window
    described = dict(parameter)
    if described["schema"].get("type") == "array":
        described |= {"style": "form", "explode": False}
        described["example"] = [column.name for column in served.parameters.columns[:2]]
    elif window is not None and name in _WINDOW_EXAMPLE:
        described["example"] = _WINDOW_EXAMPLE[name]
    elif name in served.mart.filters:
        described["example"] = _example(served.mart.column(name))
    elif name == "page_size":
        described["example"] = 100
    return described
