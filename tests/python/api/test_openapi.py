"""The description says what the API answers; every test client here holds each answer to it."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from api_warehouse import CATALOGUE, ApiWarehouse, json_of
from contract import Contract
from jsonschema import Draft202012Validator, FormatChecker
from npm_tools import npm_tool
from openapi_spec_validator import validate

from api.app import create_app
from api.description.openapi import COMMITTED, check, describe_api, differences
from clusters import PROJECT_DIR
from warehouse.catalogue import read_catalogue

BASE = "/api/reporting/v1"
# What people see: no part of the interface for programs.
PAGES = ("/", "/login", "/logout", "/docs", "/static/", "/metrics")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The description of the project, as JSON."""
    found: dict[str, Any] = json.loads(json.dumps(describe_api(read_catalogue(PROJECT_DIR))))
    return found


def test_each_address_answers_as_described(own: ApiWarehouse) -> None:
    own.run(
        "insert into metadata.refresh_log (job_name) values ('refresh');"
        " insert into metadata.parity_verdicts (organization_id, mart, metric, verdict)"
        " values ('alpha', 'daily_metrics', 'spend', 'ok')"
    )
    client = own.client(own.key("described", "operator", organization=["alpha"]))
    paths = json_of(client.get("/openapi.json"))["paths"]
    reads = [path for path, item in paths.items() if "get" in item and "{" not in path]
    assert len(reads) >= 8
    for path in reads:
        assert client.get(path).status_code in (200, 403), path


def test_an_answer_that_is_not_as_described_is_noticed(read_only: ApiWarehouse) -> None:
    client = read_only.client(read_only.key("held", organization=["alpha"]))
    good = client.get("daily-metrics", page_size=3)
    bad = client.get("daily-metrics", nonsense=1)
    document = json.loads(json.dumps(describe_api(CATALOGUE)))
    Contract(document).check(good)
    schemas = f"{BASE}/daily-metrics"
    changes: list[tuple[Any, Callable[[Any], Any]]] = [
        (good, lambda d: d["components"]["schemas"]["Freshness"]["properties"].pop("is_stale")),
        (good, lambda d: d["components"]["schemas"]["daily_metrics_row"]["properties"].pop("day")),
        (good, lambda d: d["components"]["schemas"]["Window"]["required"].append("weeks")),
        (good, lambda d: d["components"]["headers"]["ETag"]["schema"].update(pattern="^W/")),
        (good, lambda d: d["paths"][schemas]["get"]["responses"].pop("200")),
        (good, lambda d: d["paths"][schemas]["get"]["responses"]["200"].update(content={})),
        (bad, lambda d: d["paths"][schemas]["get"]["responses"].pop("400")),
        (bad, lambda d: d["components"]["schemas"]["Problem"]["properties"].pop("errors")),
    ]
    for response, change in changes:
        changed = copy.deepcopy(document)
        change(changed)
        with pytest.raises(AssertionError, match="described"):
            Contract(changed).check(response)


def test_every_route_is_described(read_only: ApiWarehouse) -> None:
    contract = Contract.of(CATALOGUE)
    for rule in create_app(read_only.settings).url_map.iter_rules():
        path = str(rule).replace("<path:mart_path>", "daily-metrics").replace("<path:", "<")
        if path == "/" or path.startswith(PAGES[1:]):
            continue
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            described = contract.operation(path.split("<")[0] + "1" if "<" in path else path,
                                           method.lower())  # fmt: skip
            assert described or "<" in path, f"{method} {path}"


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
    assert "organization_id" not in json.dumps(
        {path: item for path, item in document["paths"].items() if path.startswith(BASE)}
    )
    for path, item in document["paths"].items():
        for operation in item.values():
            assert (operation.get("security") == []) == path.startswith("/health/")


def test_every_example_is_valid(document: dict[str, Any]) -> None:
    components = {"components": document["components"]}
    found = list(examples(document))
    assert len(found) > 30
    for schema, example in found:
        validator = Draft202012Validator(
            {**schema, **components}, format_checker=FormatChecker(["date", "date-time"])
        )
        validator.validate(example)


def examples(item: Any) -> Any:
    """Every schema of a document that stands beside an example."""
    if isinstance(item, dict):
        if "schema" in item and "example" in item:
            yield item["schema"], item["example"]
        item = list(item.values())
    if isinstance(item, list):
        for part in item:
            yield from examples(part)


def test_every_answer_is_closed_and_every_operation_complete(document: dict[str, Any]) -> None:
    for name, schema in document["components"]["schemas"].items():
        if "properties" in schema:
            assert schema.get("additionalProperties") is False, name
    identifiers = []
    for path, item in document["paths"].items():
        for operation in item.values():
            identifiers.append(operation["operationId"])
            assert operation["summary"]
            assert operation["description"]
            assert set(operation["responses"]) >= (
                {"500"} if path.startswith("/health/") else {"401", "429", "500", "503"}
            ), path
            if path.startswith(BASE):
                assert set(operation["responses"]) >= {"304", "400", "406"}
    assert len(set(identifiers)) == len(identifiers)
    assert {
        "get_daily_metrics", "get_weekly_partner_performance", "get_parity_results", "list_marts",
        "get_refresh",
    } <= set(identifiers)  # fmt: skip


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_spectral_finds_nothing() -> None:
    done = subprocess.run(
        [
            *npm_tool("@stoplight/spectral-cli", "spectral"), "lint", str(COMMITTED),
            "--ruleset", str(PROJECT_DIR / "tests/python/api/spectral.json"),
            "--fail-severity", "hint",
        ],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No results with a severity of 'hint' or higher found" in done.stdout


def test_the_committed_description_is_that_of_the_project(document: dict[str, Any]) -> None:
    committed = json.loads(COMMITTED.read_text(encoding="utf-8"))
    assert list(differences(document, committed)) == [], "run `oversight openapi`"


def test_check_says_what_differs(document: dict[str, Any], tmp_path: Any) -> None:
    stored = tmp_path / "openapi.json"
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    assert "can't be read" in check(text, stored)[0]
    stored.write_text(text)
    assert check(text, stored) == []
    stored.write_text(json.dumps(document))
    assert check(text, stored) == ["the same content, written in another way"]
    stale = copy.deepcopy(document)
    stale["openapi"] = "3.0.0"
    del stale["paths"][f"{BASE}/marts"]
    stale["paths"]["/old"] = {}
    stored.write_text(json.dumps(stale))
    assert check(text, stored) == [
        'openapi: "3.0.0" should be "3.1.0"',
        f"paths > {BASE}/marts: missing",
        "paths > /old: no longer there",
    ]


def test_the_command_checks_the_committed_file() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner.cli", "openapi", "--check"],
        cwd=PROJECT_DIR, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_list_says_all_that_an_agent_needs(read_only: ApiWarehouse) -> None:
    client = read_only.client(read_only.key("finding", organization=["alpha"]))
    marts = {item["name"]: item for item in json_of(client.get("marts"))["data"]}
    assert set(marts) == {"daily_metrics", "weekly_partner_performance", "parity_results"}
    daily = marts["daily_metrics"]
    assert daily["path"] == f"{BASE}/daily-metrics"
    assert daily["operation_id"] == "get_daily_metrics"
    assert daily["grain"] == ["day", "partner_id"]
    assert daily["columns"][2] == {
        "name": "spend", "data_type": "numeric", "is_nullable": False, "description": "The spend.",
    }  # fmt: skip
    parameters = {item["name"]: item for item in daily["parameters"]}
    assert list(parameters) == ["from", "to", "partner_id", "fields", "page", "page_size"]
    assert parameters["fields"]["values"] == ["day", "partner_id", "spend", "clicks"]
    assert (parameters["page_size"]["minimum"], parameters["page_size"]["maximum"]) == (1, 5000)
    assert (parameters["from"]["format"], parameters["partner_id"]["max_length"]) == ("date", 500)
    assert daily["window"] == {
        "column": "day",
        "kind": "day",
        "default_days": 30,
        "max_days": 92,
    }
    assert daily["page_size"] == {"default": 500, "maximum": 5000}
    assert daily["max_whole_rows"] == 100_000
    assert "text/csv" in daily["media_types"]
    assert marts["parity_results"]["window"] is None
    assert marts["parity_results"]["columns"][1]["is_nullable"]
    views = {item["view"]: item for item in json_of(client.get("metadata/refresh"))["views"]}
    for name, mart in marts.items():
        assert mart["freshness"] == {
            key: value for key, value in views[name].items() if key not in ("view", "path")
        }
