"""GET /api/reporting/v1/<mart>, and what marts there are: routes that the catalogue decides."""

from __future__ import annotations

from typing import Any

import psycopg2.errors
from flask import Blueprint, Response, g, json, request
from marshmallow import RAISE, Schema

from api import query
from api.auth import require_role
from api.deployed import ServedMart
from api.parameters import load
from api.problems import unavailable
from api.state import PREFIX, state
from warehouse.catalogue import Mart

blueprint = Blueprint("marts", __name__, url_prefix=PREFIX)
_NO_PARAMETERS = Schema.from_dict({}, name="no_parameters")(unknown=RAISE)


@blueprint.get("/marts")
def list_marts() -> Response:
    """The marts that the caller's role may read."""
    load(_NO_PARAMETERS, request.args)
    served = state().catalogue.current()
    body = [
        describe(item) for item in served.marts.values() if g.principal.role in item.mart.readers
    ]
    return Response(json.dumps({"data": body}), content_type="application/json")


@blueprint.get("/<path:mart_path>")
def read_mart(mart_path: str) -> Response:
    """One page of one mart."""
    here = state()
    served = here.catalogue.current().mart(mart_path)
    require_role(g.principal, served.mart.readers)
    asked = served.parameters.request(request.args)
    position = here.tokens.read(served.mart, asked, g.principal)
    message = query.message(
        served, asked, g.principal, position, timeout_ms=here.limits.statement_timeout_ms
    )
    try:
        row = here.pool.read(message)
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedColumn) as error:
        raise unavailable(
            "not-built", "this mart is declared but not built yet", retry_after_seconds=60
        ) from error
    assert row is not None
    page = query.page_of(row, served)
    token = None
    if page.next_position is not None:
        token = here.tokens.issue(served.mart, asked, g.principal, page.next_position)
    window = None if page.window is None else {"from": page.window[0], "to": page.window[1]}
    body = (
        f'{{"data":[{page.rows}],"next_page":{json.dumps(token)}'
        f',"window":{json.dumps(window)},"freshness":{page.freshness}}}'
    )
    return Response(body, content_type="application/json")


def describe(served: ServedMart) -> dict[str, Any]:
    """A mart as callers may know it: without the organization, which no answer shows."""
    mart: Mart = served.mart
    hidden = served.organization_column
    return {
        "name": mart.name,
        "path": f"{PREFIX}/{mart.path}",
        "description": mart.description,
        "grain": [name for name in mart.grain if name != hidden],
        "columns": [
            {
                "name": column.name,
                "data_type": column.data_type,
                "description": column.description,
            }
            for column in mart.columns
            if column.name != hidden
        ],
        "parameters": sorted(served.parameters.schema.fields),
        "window": None
        if mart.window is None
        else {
            "column": mart.window.column,
            "kind": mart.window.kind,
            "default_days": mart.window.default_days,
            "max_days": mart.window.max_days,
        },
        "cadence": mart.cadence,
        "freshness_sla_seconds": mart.freshness_sla_seconds,
    }
