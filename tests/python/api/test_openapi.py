"""The description says what the API answers."""

import json
from typing import Any

import pytest
from api_warehouse import CATALOGUE, ApiWarehouse, json_of
from jsonschema import Draft202012Validator

from api.openapi import describe_api
from clusters import PROJECT_DIR
from warehouse.catalogue import read_catalogue

BASE = "/api/reporting/v1"


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (f"{BASE}/daily-metrics", {}),
        (f"{BASE}/daily-metrics", {"page_size": "1"}),
        (f"{BASE}/weekly-partner-performance", {"week": "2026-W40"}),
        (f"{BASE}/metadata/parity", {}),
        (f"{BASE}/metadata/refresh", {}),
        (f"{BASE}/marts", {}),
        ("/health/ready", {}),
    ],
)
def test_answers_are_as_described(own: ApiWarehouse, path: str, query: dict[str, str]) -> None:
    own.run(
        "insert into metadata.refresh_log (job_name) values ('refresh');"
        " insert into metadata.parity_verdicts (organization_id, mart, metric, verdict)"
        " values ('alpha', 'daily_metrics', 'spend', 'ok')"
    )
    client = own.client(own.key("described", organization=["alpha"]))
    document = json_of(client.get("/openapi.json"))
    answer = client.get(path, None, **query)
    content = document["paths"][path]["get"]["responses"]["200"]["content"]
    validator(document, content["application/json"]["schema"]).validate(answer.json)


def test_errors_are_as_described(read_only: ApiWarehouse) -> None:
    document = describe_api(CATALOGUE)
    client = read_only.client(read_only.key("wrong", organization=["alpha"]))
    for answer in (client.get("nope"), client.get("daily-metrics", other="1")):
        validator(document, {"$ref": "#/components/schemas/Problem"}).validate(answer.json)


def test_every_mart_has_its_parameters_and_no_organization() -> None:
    document = describe_api(CATALOGUE)
    daily = document["paths"][f"{BASE}/daily-metrics"]["get"]["parameters"]
    parameters = {item["name"]: item["schema"] for item in daily}
    assert set(parameters) == {"from", "to", "partner_id", "fields", "page", "page_size"}
    assert parameters["from"] == {"type": "string", "format": "date"}
    assert parameters["page_size"] == {
        "type": "integer", "format": "int64", "minimum": 1, "maximum": 5000,
    }  # fmt: skip
    assert parameters["fields"]["items"]["enum"] == ["day", "partner_id", "spend", "clicks"]
    assert all(item["required"] is False and item["description"] for item in daily)
    assert "organization_id" not in str(document)
    for path, item in document["paths"].items():
        for operation in item.values():
            asked = operation.get("security")
            assert (asked == []) == path.startswith("/health/")
            assert (asked is not None) == path.startswith(("/health/", "/api/admin/"))


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    """A strict validator of one schema of the document: what is not described fails."""
    closed = _closed(document["components"]["schemas"])
    return Draft202012Validator(
        _closed(schema) | {"components": {"schemas": closed}, "$id": "urn:oversight:test"}
    )


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(item) for name, item in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        closed["additionalProperties"] = False
    return closed


def test_the_committed_description_is_that_of_the_project() -> None:
    committed = json.loads((PROJECT_DIR / "api" / "openapi.json").read_text(encoding="utf-8"))
    current = describe_api(read_catalogue(PROJECT_DIR))
    assert committed == current, "run `oversight openapi > api/openapi.json`"
