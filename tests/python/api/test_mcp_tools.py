"""Tools as they are made from an OpenAPI document: ours, a grown one, one deployed meanwhile."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
from api_warehouse import CATALOGUE, DAILY, ApiWarehouse, create_mart
from jsonschema import Draft202012Validator
from server_process import ServerProcess

from api.mcp.callers import Callers
from api.mcp.calls import call
from api.mcp.tools import REPORTING, operations
from api.mcp.upstream import Upstream
from clusters import PROJECT_DIR

DOCUMENT: dict[str, Any] = json.loads(
    (PROJECT_DIR / "api/openapi.json").read_text(encoding="utf-8")
)
EVERYTHING = set(DOCUMENT["paths"])


def test_the_tools_are_those_that_agents_were_promised() -> None:
    tools = {name: found.tool for name, found in operations(DOCUMENT, EVERYTHING).items()}
    assert {"get_daily_metrics", "get_weekly_partner_performance"} <= set(tools)
    assert {"get_freshness", "list_marts", "get_parity"} <= set(tools)
    assert {"from", "to", "partnerId", "cursor", "pageSize"} <= set(
        tools["get_daily_metrics"].input_schema["properties"]
    )
    for tool in tools.values():
        assert tool.description
        assert tool.input_schema["additionalProperties"] is False
        assert tool.output_schema is not None
        for schema in (tool.input_schema, tool.output_schema):
            Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object"
            assert "#/components" not in json.dumps(schema)
        for name, argument in tool.input_schema["properties"].items():
            assert argument.get("description"), f"{tool.name}.{name}"
    assert "Columns: " in (tools["get_daily_metrics"].description or "")
    assert "one row per grain" in (tools["get_daily_metrics"].description or "")


def test_only_reads_of_marts_become_tools() -> None:
    found = operations(DOCUMENT, EVERYTHING)
    assert {operation.path for operation in found.values()} == {
        path for path in EVERYTHING if path.startswith(REPORTING)
    }
    readable = {f"{REPORTING}daily-metrics"}
    assert set(operations(DOCUMENT, readable)) == {
        "get_daily_metrics",
        "get_freshness",
        "list_marts",
    }


def test_an_output_schema_is_the_apis_with_the_adapters_members() -> None:
    found = operations(DOCUMENT, EVERYTHING)["get_daily_metrics"].tool.output_schema
    described = DOCUMENT["paths"][f"{REPORTING}daily-metrics"]["get"]["responses"]["200"]
    schema = described["content"]["application/json"]["schema"]
    schemas = DOCUMENT["components"]["schemas"]
    page = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    assert found is not None
    assert set(found["properties"]) == {*page["properties"], "truncated"}
    assert set(found["required"]) == {*page["required"], "truncated", "next_page"}
    row = found["$defs"][page["properties"]["data"]["items"]["$ref"].rpartition("/")[2]]
    assert row["properties"] == schemas[row_name(page)]["properties"]


def row_name(page: dict[str, Any]) -> str:
    return str(page["properties"]["data"]["items"]["$ref"].rpartition("/")[2])


def test_a_document_that_grew_needs_no_change_here() -> None:
    grown = copy.deepcopy(DOCUMENT)
    operation = copy.deepcopy(grown["paths"][f"{REPORTING}daily-metrics"]["get"])
    operation["operationId"] = "get_queue_load"
    grown["components"]["parameters"] = {
        "minimum_wait": {
            "in": "query",
            "name": "minimum_wait_seconds",
            "required": True,
            "schema": {"type": "number", "minimum": 0},
        }
    }
    operation["parameters"] += [
        {"$ref": "#/components/parameters/minimum_wait"},
        {"in": "header", "name": "Accept", "schema": {"type": "string"}},
    ]
    grown["paths"][f"{REPORTING}queue-load"] = {"get": operation, "parameters": []}
    found = operations(grown, {f"{REPORTING}queue-load"})["get_queue_load"]
    assert found.parameters["minimumWaitSeconds"] == "minimum_wait_seconds"
    assert found.tool.input_schema["required"] == ["minimumWaitSeconds"]
    assert "accept" not in {name.lower() for name in found.parameters}
    assert found.argument("minimum_wait_seconds") == "minimumWaitSeconds"


def test_a_mart_that_is_deployed_becomes_a_tool_while_the_adapter_runs(
    own: ApiWarehouse, tmp_path: Path
) -> None:
    key = own.key("deployed", organization=["alpha"], partner=["*"])
    added = replace(DAILY, name="hourly_metrics", path="hourly-metrics")
    create_mart(own, added)
    api = ServerProcess(own, tmp_path / "log")

    async def use() -> None:
        async with Upstream(f"http://127.0.0.1:{api.port}") as upstream:
            callers = Callers(upstream)
            before = await callers.known(key, within_seconds=0)
            assert "get_hourly_metrics" not in before.operations
            own.deploy(replace(CATALOGUE, marts=(*CATALOGUE.marts, added)))
            with anyio.fail_after(20):
                while True:
                    known = await callers.known(key, within_seconds=0)
                    if found := known.operations.get("get_hourly_metrics"):
                        break
                    await anyio.sleep(0.2)
            result = await call(upstream, found, {}, token=key)
            assert not result.is_error

    try:
        api.wait_until_ready()
        anyio.run(use)
    finally:
        api.stop()


def test_a_document_that_is_known_is_not_sent_again(read_only: ApiWarehouse) -> None:
    client = read_only.client(read_only.key("document", organization=["alpha"]))
    first = client.get("/openapi.json")
    again = client.get("/openapi.json", {"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    other = client.get("/openapi.json", {"If-None-Match": '"other"'})
    assert (other.status_code, other.data) == (200, first.data)


def test_no_worker_of_the_api_and_no_command_imports_it() -> None:
    script = (
        "import sys, api.server, api.app, runner.cli\n"
        "print({'mcp', 'mcp_types', 'uvicorn', 'httpx2', 'api.mcp'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT_DIR, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
