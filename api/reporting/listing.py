"""GET /api/reporting/v1/marts: what there is, what it may be asked, and how fresh it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, g, request
from psycopg2.sql import SQL

from api.access.scope import reading_as
from api.reporting import export, formats, metadata
from api.reporting.deployed import ServedMart
from api.reporting.parameters import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, NO_PARAMETERS, load
from api.state import PREFIX, state

blueprint = Blueprint("listing", __name__, url_prefix=PREFIX)


@blueprint.get("/marts")
def list_marts() -> Response:
    """The marts that the caller's role may read."""
    load(NO_PARAMETERS, request.args)
    formats.chosen(request.headers.get("Accept"), (formats.JSON,))
    here = state()
    served = here.catalogue.current()
    marts = [item for item in served.marts.values() if g.principal.role in item.mart.readers]
    shows = {name for item in marts for name in item.fresh_as}
    g.exchange.keep(shows=shows, zone=served.catalogue.reporting_timezone)
    views = SQL("select json_build_array({})::text").format(
        SQL(", ").join(metadata.view(item, g.principal) for item in marts)
    )
    prologue = reading_as(g.principal, timeout_ms=here.limits.statement_timeout_ms)
    row = here.pool.read(SQL("").join([prologue, views]))
    assert row is not None
    data = []
    for item, view in zip(marts, json.loads(row[0]), strict=True):
        fresh = {name: value for name, value in view.items() if name not in ("view", "path")}
        data.append({**describe(item), "freshness": fresh})
    return Response(json.dumps({"data": data}), content_type=formats.JSON)


def operation_id(served: ServedMart) -> str:
    """The name of a mart's operation in the OpenAPI document, and of the agents' tool."""
    return f"get_{served.mart.name}"


def describe(served: ServedMart) -> dict[str, Any]:
    """A mart as callers may know it: without the organization, which no answer shows."""
    mart = served.mart
    return {
        "name": mart.name,
        "path": f"{PREFIX}/{mart.path}",
        "operation_id": operation_id(served),
        "description": mart.description,
        "grain": [name for name in mart.grain if name != served.organization_column],
        "columns": [
            {
                "name": column.name,
                "data_type": column.data_type,
                "is_nullable": not column.is_required,
                "description": column.description,
            }
            for column in served.parameters.columns
        ],
        "parameters": [
            _parameter(name, field.metadata)
            for name, field in served.parameters.schema.fields.items()
        ],
        "window": None
        if mart.window is None
        else {
            "column": mart.window.column,
            "kind": mart.window.kind,
            "default_days": mart.window.default_days,
            "max_days": mart.window.max_days,
        },
        "page_size": {"default": DEFAULT_PAGE_SIZE, "maximum": MAX_PAGE_SIZE},
        "media_types": list(formats.OF_A_MART),
        "max_whole_rows": export.MOST_ROWS,
        "cadence": mart.cadence,
        "freshness_sla_seconds": mart.freshness_sla_seconds,
        "is_parity_checked": mart.parity is not None,
    }


def _parameter(name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter in few members, all of them there, whatever its kind."""
    return {
        "name": name,
        "description": described["description"],
        "kind": described["type"],
        "format": described.get("format"),
        "values": described.get("enum") or described.get("items", {}).get("enum"),
        "minimum": described.get("minimum"),
        "maximum": described.get("maximum"),
        "max_length": described.get("maxLength"),
    }
