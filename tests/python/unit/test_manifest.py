"""House rules of the dbt project, held against the manifest that dbt parses; no exceptions list."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters import PROJECT_DIR

Node = dict[str, Any]

FEEDS = {
    "partners": {
        "organization_id": "text",
        "record_key": "text",
        "partner_id": "text",
        "name": "text",
        "region": "text",
        "status": "text",
    },
    "campaigns": {
        "organization_id": "text",
        "record_key": "text",
        "campaign_id": "text",
        "partner_id": "text",
        "name": "text",
        "objective": "text",
        "created_at": "timestamptz",
    },
    "spend": {
        "organization_id": "text",
        "record_key": "text",
        "occurred_at": "timestamptz",
        "day": "date",
        "partner_id": "text",
        "campaign_id": "text",
        "spend_amount": "numeric",
        "clicks": "bigint",
        "impressions": "bigint",
    },
    "events": {
        "organization_id": "text",
        "record_key": "text",
        "occurred_at": "timestamptz",
        "day": "date",
        "partner_id": "text",
        "campaign_id": "text",
        "event_type": "text",
        "event_count": "bigint",
        "amount": "numeric",
    },
    "control_totals": {
        "organization_id": "text",
        "record_key": "text",
        "day": "date",
        "partner_id": "text",
        "spend_amount": "numeric",
        "revenue_amount": "numeric",
        "events": "bigint",
        "impressions": "bigint",
        "clicks": "bigint",
        "precision": "numeric",
    },
}
NAMES = {
    "staging": r"stg_[a-z0-9_]+?__[a-z_]+",
    "intermediate": r"int_[a-z_]+__[a-z]+ed",
    "curated": r"(dim|fact)_[a-z_]+",
    "reporting": r"(?!stg_|int_|dim_|fact_)[a-z]+(_[a-z]+)+",
}
READS = {
    "staging": {"raw", "staging"},
    "intermediate": {"staging", "intermediate"},
    "curated": {"intermediate", "curated", "seeds"},
    "reporting": {"curated", "seeds", "ledgers"},
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """What dbt parses; no database is needed for it."""
    folder = tmp_path_factory.mktemp("parse")
    paths = ["--target-path", str(folder), "--log-path", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "dbt.cli.main", "--warn-error", "parse", *paths],
        cwd=PROJECT_DIR,
        env=os.environ | {"DBT_PROFILES_DIR": str(PROJECT_DIR), "OVERSIGHT_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content: Node = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return content


def _nodes(manifest: Node, kind: str) -> list[Node]:
    found = [node for node in manifest["nodes"].values() if node["resource_type"] == kind]
    assert found, f"the project has no {kind}"
    return found


def _models(manifest: Node, layer: str | None = None) -> list[Node]:
    found = [node for node in _nodes(manifest, "model") if layer is None or _layer(node) == layer]
    assert found, f"the project has no model in {layer}"
    return found


def _layer(node: Node) -> str:
    """Where a node lies; a source is `raw` or one of the warehouse's own `ledgers`."""
    if node["resource_type"] == "source":
        return "raw" if node["schema"] == "staging" else "ledgers"
    if node["resource_type"] == "seed":
        return "seeds"
    if node["resource_type"] == "snapshot":
        return "snapshots"
    return str(node["original_file_path"].split("/")[1])


def _tests(manifest: Node, node: Node) -> Iterator[Node]:
    """The generic tests of a node and of its columns."""
    for test in _nodes(manifest, "test"):
        if test.get("attached_node") == node["unique_id"]:
            yield test


def _never_null(manifest: Node, node: Node) -> set[str]:
    """The columns of a node that a test or a constraint keeps from being NULL."""
    found = {
        name
        for name, column in node["columns"].items()
        if "not_null" in {constraint["type"] for constraint in column.get("constraints", [])}
    }
    for test in _tests(manifest, node):
        name, arguments = test["test_metadata"]["name"], test["test_metadata"]["kwargs"]
        if name == "not_null":
            found.add(test["column_name"])
        elif name == "unique_key":
            found |= set(arguments["columns"]) - set(arguments.get("nullable", []))
    return found


def _parent(manifest: Node, unique_id: str) -> Node:
    found: Node = manifest["nodes"].get(unique_id) or manifest["sources"][unique_id]
    return found


def test_models_lie_in_their_layer_and_are_called_after_it(manifest: Node) -> None:
    for node in _models(manifest):
        layer = _layer(node)
        assert layer in NAMES, f"{node['name']} lies in models/{layer}"
        assert re.fullmatch(NAMES[layer], node["name"]), f"{node['name']} in {layer}"
        assert Path(node["original_file_path"]).stem == node["name"]


def test_a_staging_model_carries_the_name_of_its_engine(manifest: Node) -> None:
    for node in _models(manifest, "staging"):
        engine = node["original_file_path"].split("/")[2]
        assert node["name"].startswith(f"stg_{engine}__"), node["name"]


def test_yaml_is_called_after_its_folder(manifest: Node) -> None:
    assert manifest["unit_tests"]
    for node in [
        *_models(manifest),
        *manifest["sources"].values(),
        *manifest["unit_tests"].values(),
    ]:
        text = node.get("patch_path") or node["original_file_path"]
        if node["resource_type"] == "model" and not node.get("patch_path"):
            continue
        path = Path(text.split("://")[-1])
        kind = {"model": "models", "source": "sources", "unit_test": "unit_tests"}
        expected = f"_{path.parent.name}__{kind[node['resource_type']]}.yml"
        assert path.name == expected, f"{path} declares {node['name']}"


def test_a_layer_reads_only_the_one_below(manifest: Node) -> None:
    for node in _models(manifest):
        layer = _layer(node)
        for unique_id in node["depends_on"]["nodes"]:
            parent = _parent(manifest, unique_id)
            assert _layer(parent) in READS[layer], f"{node['name']} reads {unique_id}"


def test_a_staging_model_reads_its_own_engine_only(manifest: Node) -> None:
    for node in _models(manifest, "staging"):
        engine = node["original_file_path"].split("/")[2]
        assert node["depends_on"]["nodes"], f"{node['name']} reads nothing"
        for unique_id in node["depends_on"]["nodes"]:
            parent = _parent(manifest, unique_id)
            owner = parent.get("source_name") or parent["original_file_path"].split("/")[2]
            assert owner == engine, f"{node['name']} reads {unique_id}"


def test_no_model_reads_a_snapshot(manifest: Node) -> None:
    snapshots = {node["unique_id"] for node in _nodes(manifest, "snapshot")}
    for node in _models(manifest):
        assert not snapshots & set(node["depends_on"]["nodes"]), node["name"]


def test_every_key_is_tested(manifest: Node) -> None:
    nodes = [
        node for node in _models(manifest) if node["config"]["materialized"] != "ephemeral"
    ] + _nodes(manifest, "seed")
    for node in nodes:
        names = {test["test_metadata"]["name"] for test in _tests(manifest, node)}
        assert names & {"unique", "unique_key"}, f"{node['name']} has no test of its key"


def test_the_tested_key_of_a_mart_is_its_grain(manifest: Node) -> None:
    for node in _models(manifest, "reporting"):
        keys = [
            test["test_metadata"]["kwargs"]["columns"]
            for test in _tests(manifest, node)
            if test["test_metadata"]["name"] == "unique_key"
        ]
        assert keys == [node["config"]["meta"]["mart"]["grain"]], node["name"]


def test_everything_is_described(manifest: Node) -> None:
    described = [
        *_models(manifest),
        *_nodes(manifest, "seed"),
        *_nodes(manifest, "snapshot"),
        *manifest["sources"].values(),
    ]
    for node in described:
        if node["config"].get("materialized") == "ephemeral":
            continue
        assert re.search(r"\bOne row per\b", node["description"]), (
            f"{node['name']}: One row per ..."
        )
        columns = node["columns"].values()
        assert columns or _layer(node) == "ledgers", f"{node['name']} declares no columns"
        for column in columns:
            assert column["description"], f"{node['name']}.{column['name']} is not described"
    for source in manifest["sources"].values():
        assert source["source_description"], source["source_name"]


def test_a_column_that_may_be_null_says_when(manifest: Node) -> None:
    for node in [*_models(manifest), *_nodes(manifest, "seed"), *_nodes(manifest, "snapshot")]:
        nullable = node["columns"].keys() - _never_null(manifest, node)
        silent = [name for name in nullable if "NULL" not in node["columns"][name]["description"]]
        assert not silent, f"{node['name']}: {sorted(silent)}"


def test_raw_columns_that_may_be_null_say_what_it_means(manifest: Node) -> None:
    for source in manifest["sources"].values():
        if _layer(source) != "raw":
            continue
        key = {*source["config"]["meta"]["landing"]["key"], "organization_id"}
        silent = [
            name
            for name, column in source["columns"].items()
            if not (name in key or column["config"]["meta"].get("required"))
            and "NULL" not in column["description"]
        ]
        assert not silent, f"{source['identifier']}: {silent}"


def test_every_feed_has_its_columns(manifest: Node) -> None:
    for node in _models(manifest, "staging"):
        feed = node["name"].rpartition("__")[2]
        types = {name: column["data_type"] for name, column in node["columns"].items()}
        if feed in FEEDS:
            assert types == FEEDS[feed], node["name"]


def test_feeds_and_their_registrations_mirror_each_other(manifest: Node) -> None:
    feeds = {
        node["name"] for node in _models(manifest, "staging") if "feed" in node["config"]["meta"]
    }
    macros = [macro["name"] for macro in manifest["macros"].values() if "_feed__" in macro["name"]]
    registered = {
        f"stg_{engine}__{feed}"
        for feed, _, engine in (name.partition("_feed__") for name in macros)
    }
    assert registered == feeds
    for node in _models(manifest, "intermediate"):
        feed = node["name"].removeprefix("int_").removesuffix("__unioned")
        read = {_parent(manifest, name)["name"] for name in node["depends_on"]["nodes"]}
        assert read == {name for name in feeds if name.endswith(f"__{feed}")}, node["name"]


def test_raw_sources_say_when_they_are_stale(manifest: Node) -> None:
    for source in manifest["sources"].values():
        if _layer(source) == "raw":
            assert source["loaded_at_query"], source["identifier"]
            assert source["freshness"]["error_after"]["count"], source["identifier"]


@pytest.mark.parametrize("layer", ["curated", "reporting"])
def test_what_is_curated_or_served_has_a_contract(manifest: Node, layer: str) -> None:
    for node in _models(manifest, layer):
        assert node["config"]["contract"]["enforced"], node["name"]
        if node["config"]["materialized"] == "incremental":
            assert node["config"]["on_schema_change"] == "fail", node["name"]
        for column in node["columns"].values():
            assert column["data_type"], f"{node['name']}.{column['name']}"


def test_a_reporting_model_is_a_declared_mart_and_no_other_model_is(manifest: Node) -> None:
    for node in _models(manifest):
        is_mart = _layer(node) == "reporting"
        assert ("mart" in node["config"]["meta"]) == is_mart, node["name"]


def test_marts_that_add_up_have_unit_tests(manifest: Node) -> None:
    tested = {test["model"] for test in manifest["unit_tests"].values()}
    for node in _models(manifest, "reporting"):
        if node["config"]["materialized"] == "incremental":
            assert node["name"] in tested, node["name"]


def test_one_macro_a_file_documented_with_its_arguments(manifest: Node) -> None:
    own = [
        macro
        for macro in manifest["macros"].values()
        if macro["package_name"] == "oversight" and not macro["path"].startswith("models/")
    ]
    assert own
    for macro in own:
        path = Path(macro["original_file_path"])
        assert path.stem == macro["name"].removeprefix("test_"), f"{macro['name']} lies in {path}"
        text = (PROJECT_DIR / path).read_text(encoding="utf-8")
        header = text.split("#}")[0]
        assert header.startswith("{#"), f"{path} starts with no comment"
        signature = re.search(r"{%-?\s*(?:macro|test)\s+\w+\(([^)]*)\)", text)
        assert signature, path
        for part in filter(None, signature[1].replace("\n", " ").split(",")):
            argument = part.partition("=")[0].strip()
            if argument not in ("model", "column_name", "custom_schema_name"):
                assert f"{argument}:" in header, f"{path} does not document {argument}"
