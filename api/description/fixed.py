"""The operations that no mart decides: runs and freshness, health, this document."""

from __future__ import annotations

from typing import Any

from api.description.operations import Operation, json_answer
from api.description.schemas import FRESHNESS_EXAMPLE, RUN_EXAMPLE, array, closed, reference
from api.state import PREFIX

_VIEW_EXAMPLE: dict[str, Any] = {
    "view": "daily_metrics",
    "path": f"{PREFIX}/daily-metrics",
    **FRESHNESS_EXAMPLE,
}


def _health(name: str, description: str, refusals: tuple[int, ...]) -> Operation:
    return Operation(
        path=f"/health/{name}",
        operation_id=f"health_{name}",
        summary=f"Whether the service is {name}",
        description=description,
        tag="health",
        is_open=True,
        refusals=refusals,
        answers={
            200: json_answer(
                f"It is {name}.",
                closed({"status": {"type": "string", "enum": [name]}}),
                {"status": name},
            )
        },
    )


OPERATIONS = (
    Operation(
        path=f"{PREFIX}/metadata/refresh",
        operation_id="get_refresh",
        summary="Read the latest runs and the freshness of each view",
        description="The latest runs, and last refresh and SLA state per view.",
        tag="metadata",
        answers={
            200: json_answer(
                "Views and runs.",
                closed(
                    {
                        "views": array(reference("View")),
                        "runs": array(reference("Run"), "Newest first."),
                        "runs_limit": {
                            "type": "integer",
                            "description": "At most so many runs are shown.",
                        },
                    }
                ),
                {"views": [_VIEW_EXAMPLE], "runs": [RUN_EXAMPLE], "runs_limit": 50},
            )
        },
    ),
    Operation(
        path="/openapi.json",
        operation_id="get_openapi",
        summary="Read this description",
        description="The OpenAPI document of what is deployed.",
        tag="metadata",
        answers={
            200: json_answer(
                "The document.",
                {
                    "type": "object",
                    "required": ["openapi", "info", "paths"],
                    "properties": {
                        "openapi": {"type": "string"},
                        "info": {"type": "object"},
                        "paths": {"type": "object"},
                    },
                },
                {"openapi": "3.1.0", "info": {"title": "Oversight reporting API"}, "paths": {}},
            )
        },
    ),
    _health("live", "200 while the process answers at all.", (500,)),
    _health("ready", "200 when reads can be answered.", (500, 503)),
)
