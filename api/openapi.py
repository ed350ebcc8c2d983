"""The OpenAPI description, from the same declarations and schemas that answer requests."""

from __future__ import annotations

import sys
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Blueprint, Response, json, request
from marshmallow import RAISE, Schema

from api.deployed import Served, ServedMart
from api.parameters import Day, Flag, Number, Text, Token, Week, Whole, load
from api.problems import CONTENT_TYPE
from api.state import PREFIX, state
from warehouse.catalogue import Catalogue, MartColumn, read_catalogue
from warehouse.errors import OversightError
from warehouse.settings import load_settings

VERSION = "1.0.0"
blueprint = Blueprint("openapi", __name__)
_NO_PARAMETERS = Schema.from_dict({}, name="no_parameters")(unknown=RAISE)

_FIELD_TYPES: dict[type, tuple[str, str | None]] = {
    Day: ("string", "date"),
    Week: ("string", "iso-week"),
    Text: ("string", None),
    Token: ("string", None),
    Whole: ("integer", None),
    Number: ("number", None),
    Flag: ("boolean", None),
}
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
_INSTANT = {"type": ["string", "null"], "format": "date-time"}
_FRESHNESS_PROPERTIES: dict[str, Any] = {
    "last_refresh_at": {**_INSTANT, "description": "When the mart was last refreshed."},
    "data_through": {**_INSTANT, "description": "All extracts up to this time are in the mart."},
    "sla_seconds": {"type": "integer", "description": "How long landed data may wait."},
    "late_after": {
        **_INSTANT,
        "description": "When what waits now breaks the SLA; null when nothing waits.",
    },
    "status": {"type": "string", "enum": ["fresh", "late", "never"]},
    "parity": {
        "type": "string",
        "enum": ["ok", "failed", "unchecked"],
        "description": "Whether figures in scope and window agree with the engines' own totals.",
    },
}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "Freshness": {
        "type": "object",
        "required": list(_FRESHNESS_PROPERTIES),
        "properties": _FRESHNESS_PROPERTIES,
    },
    "Window": {
        "type": "object",
        "description": "The days that were answered, both inclusive.",
        "required": ["from", "to"],
        "properties": {
            "from": {"type": "string", "format": "date"},
            "to": {"type": "string", "format": "date"},
        },
    },
    "Problem": {
        "type": "object",
        "description": "RFC 9457 problem details.",
        "required": ["type", "title", "status", "detail", "request_id"],
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "request_id": {"type": "string"},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "parameter": {"type": "string"},
                        "message": {"type": "string"},
                    },
                },
            },
            "known_parameters": {"type": "array", "items": {"type": "string"}},
        },
    },
    "View": {
        "type": "object",
        "required": ["view", "path", *_FRESHNESS_PROPERTIES],
        "properties": {
            "view": {"type": "string"},
            "path": {"type": "string"},
            **_FRESHNESS_PROPERTIES,
        },
    },
    "Run": {
        "type": "object",
        "properties": {
            "run_id": {"type": "integer", "format": "int64"},
            "job_name": {"type": "string"},
            "scheduled_for": _INSTANT,
            "started_at": _INSTANT,
            "finished_at": _INSTANT,
            "status": {"type": "string"},
            "rows_affected": {
                "type": ["integer", "null"],
                "description": "Null for callers who do not see all organizations.",
            },
            "error_message": {
                "type": ["string", "null"],
                "description": "For operators and admins who see all organizations.",
            },
            "models": {"type": "array", "items": {"type": "string"}},
        },
    },
}


@blueprint.get("/openapi.json")
def openapi_json() -> Response:
    """The description of what is deployed."""
    load(_NO_PARAMETERS, request.args)
    document = describe_api(state().catalogue.current().catalogue)
    return Response(json.dumps(document), content_type="application/json")


def describe_api(catalogue: Catalogue) -> dict[str, Any]:
    """The OpenAPI document of a catalogue, whether deployed or read from the project."""
    plugin: Any = MarshmallowPlugin()
    spec = APISpec(
        title="Oversight reporting API",
        version=VERSION,
        openapi_version="3.1.0",
        info={"description": "Curated, parity-checked data; every answer says how fresh it is."},
        security=[{"apiKey": []}],
        plugins=[plugin],
    )
    for field_class, (kind, form) in _FIELD_TYPES.items():
        plugin.map_to_openapi_type(field_class, kind, form)
    spec.components.security_scheme("apiKey", {"type": "http", "scheme": "bearer"})
    for name, schema in _SCHEMAS.items():
        spec.components.schema(name, schema)
    for served in Served.of(catalogue, "").marts.values():
        _add_mart(spec, served)
    _add(spec, f"{PREFIX}/marts", "list_marts", "The marts that the caller may read.", _LIST)
    _add(
        spec,
        f"{PREFIX}/metadata/refresh",
        "get_refresh",
        "The latest runs, and last refresh and SLA state per view.",
        _REFRESH,
    )
    for name in ("live", "ready"):
        _add(spec, f"/health/{name}", f"health_{name}", f"Whether the service is {name}.", _HEALTH)
    document: dict[str, Any] = spec.to_dict()
    for name in ("live", "ready"):
        document["paths"][f"/health/{name}"]["get"]["security"] = []
    return document


_HEALTH = {"type": "object", "properties": {"status": {"type": "string"}}}
_LIST = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "array", "items": {"type": "object"}}},
}
_REFRESH = {
    "type": "object",
    "required": ["views", "runs", "runs_limit"],
    "properties": {
        "views": {"type": "array", "items": {"$ref": "#/components/schemas/View"}},
        "runs": {"type": "array", "items": {"$ref": "#/components/schemas/Run"}},
        "runs_limit": {"type": "integer", "description": "At most so many runs, newest first."},
    },
}


def _add_mart(spec: APISpec, served: ServedMart) -> None:
    mart = served.mart
    shown = [column for column in mart.columns if column.name != served.organization_column]
    spec.components.schema(
        mart.name,
        {
            "type": "object",
            "description": mart.description,
            "required": [column.name for column in shown],
            "properties": {column.name: _column_schema(column) for column in shown},
        },
    )
    window: dict[str, Any] = {"type": "null"}
    if mart.window is not None:
        window = {"$ref": "#/components/schemas/Window"}
    envelope = {
        "type": "object",
        "required": ["data", "next_page", "window", "freshness"],
        "properties": {
            "data": {"type": "array", "items": {"$ref": f"#/components/schemas/{mart.name}"}},
            "next_page": {"type": ["string", "null"], "description": "Null on the last page."},
            "window": window,
            "freshness": {"$ref": "#/components/schemas/Freshness"},
        },
    }
    parameters = [{"in": "query", "schema": served.parameters.schema}]
    path = f"{PREFIX}/{mart.path}"
    _add(spec, path, f"get_{mart.name}", mart.description, envelope, parameters)


def _add(
    spec: APISpec,
    path: str,
    operation_id: str,
    description: str,
    schema: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
) -> None:
    problem = {
        "description": "Not answered; the body says why.",
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    responses = {
        "200": {"description": "OK", "content": {"application/json": {"schema": schema}}},
        "default": problem,
    }
    operation: dict[str, Any] = {
        "operationId": operation_id,
        "description": description,
        "responses": responses,
    }
    if parameters:
        operation["parameters"] = parameters
    spec.path(path=path, operations={"get": operation})


def _column_schema(column: MartColumn) -> dict[str, Any]:
    schema: dict[str, Any] = dict(
        _COLUMN_TYPES.get(column.data_type.split("(")[0], {"type": "string"})
    )
    if not column.is_required and "type" in schema:
        schema["type"] = [schema["type"], "null"]
    return schema | {"description": column.description}


def main() -> int:
    """`python -m api.openapi`: the document of the project's declarations, deployed or not."""
    try:
        document = describe_api(read_catalogue(load_settings().project_dir))
    except OversightError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(json.dumps(document, indent=2, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
