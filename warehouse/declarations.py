"""Every key of the dbt project's YAML against dbt's own JSON schema and ours for `meta`.

dbt itself passes a misspelt key on PostgreSQL without a word; what was meant is then not done.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from warehouse.declared import CatalogueError
from warehouse.schema_problems import meant, schema_problems, unknown_key
from warehouse.yaml_files import Key, Problem, YamlFile, read_yaml

_OUR_SCHEMA = Path(__file__).with_name("declarations.schema.json")
_DEFAULT_FOLDERS = {
    "model-paths": ["models"],
    "seed-paths": ["seeds"],
    "snapshot-paths": ["snapshots"],
    "macro-paths": ["macros"],
    "test-paths": ["tests"],
    "analysis-paths": ["analyses"],
}
_BUILT_IN_TESTS = {
    "unique": set[str](),
    "not_null": set[str](),
    "accepted_values": {"values", "quote"},
    "relationships": {"to", "field"},
}
_GENERIC_TEST = re.compile(r"{%-?\s*test\s+(\w+)\s*\(([^)]*)\)")


def read_declarations(project_dir: Path) -> tuple[YamlFile, list[YamlFile], list[Problem]]:
    """The project file, every other YAML file of the project, and what is wrong in their keys."""
    project, problems = read_yaml(project_dir / "dbt_project.yml", "dbt_project.yml")
    if problems:
        return project, [], problems
    problems = schema_problems(project, _dbt_schema("project"))
    if problems:
        return project, [], problems
    files: list[YamlFile] = []
    tests = generic_tests(project_dir, project)
    for path in _paths(project_dir, project, (".yml", ".yaml")):
        file, found = read_yaml(path, path.relative_to(project_dir).as_posix())
        problems += found
        if file.content is None:
            continue
        problems += check_keys(file, tests)
        files.append(file)
    return project, files, problems


def check_keys(file: YamlFile, tests: Mapping[str, set[str]]) -> list[Problem]:
    """What is wrong in the keys of one file; `tests` are the generic tests with their arguments."""
    return schema_problems(file, _dbt_schema("resources")) or [
        *_check_metas(file),
        *_check_tests(file, tests),
    ]


def _paths(project_dir: Path, project: YamlFile, endings: tuple[str, ...]) -> list[Path]:
    folders: set[Path] = set()
    for key, default in _DEFAULT_FOLDERS.items():
        folders.update(project_dir / name for name in project.content.get(key, default))
    return sorted(
        {
            path
            for folder in folders
            for path in folder.rglob("*")
            if path.suffix in endings and path.is_file()
        }
    )


@cache
def _dbt_schema(kind: str) -> dict[str, Any]:
    """The schema that dbt-core ships for resource files or for dbt_project.yml.

    Found without importing dbt, which takes a second.
    """
    spec = importlib.util.find_spec("dbt")
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [
        path for folder in folders for path in Path(folder, "jsonschemas", kind).glob("*.json")
    ]
    if not found:
        raise CatalogueError(
            "dbt-core's JSON schemas are not installed; run `make run` or"
            " `pip install -r requirements.txt` to install the locked packages"
        )
    newest = max(found, key=lambda path: (path.stem == "latest", _version(path.stem)))
    schema: dict[str, Any] = json.loads(newest.read_text(encoding="utf-8"))
    return schema


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


@cache
def _our_schema(name: str) -> dict[str, Any]:
    schema = json.loads(_OUR_SCHEMA.read_text(encoding="utf-8"))
    return {"definitions": schema["definitions"], "$ref": f"#/definitions/{name}"}


def _check_metas(file: YamlFile) -> list[Problem]:
    problems: list[Problem] = []
    for path, meta, schema in _metas(file.content, _layer(file.name)):
        problems += schema_problems(file, _our_schema(schema), meta, (*path, "config", "meta"))
    return problems


def _metas(content: dict[str, Any], layer: str) -> Iterator[tuple[tuple[Key, ...], Any, str]]:
    """Every `config.meta` of a file with its path and the name of its schema."""
    for section, items in content.items():
        if not isinstance(items, list):
            continue
        for path, item in _items((section,), items):
            if section == "sources":
                yield from _meta(path, item, "source_meta")
                for table_path, table in _items((*path, "tables"), item.get("tables")):
                    yield from _meta(table_path, table, "table_meta")
                    for column_path, column in _items(
                        (*table_path, "columns"), table.get("columns")
                    ):
                        yield from _meta(column_path, column, "source_column_meta")
                continue
            is_model = section == "models"
            has_meta = is_model and layer in ("staging", "curated", "reporting")
            yield from _meta(path, item, f"{layer}_meta" if has_meta else "no_meta")
            has_meta = is_model and layer == "reporting"
            for column_path, column in _items((*path, "columns"), item.get("columns")):
                yield from _meta(
                    column_path, column, "reporting_column_meta" if has_meta else "no_meta"
                )


def _layer(file_name: str) -> str:
    """The second folder of a model's YAML, such as staging; empty elsewhere."""
    parts = file_name.split("/")
    return parts[1] if parts[0] == "models" and len(parts) > 2 else ""


def _items(path: tuple[Key, ...], items: Any) -> Iterator[tuple[tuple[Key, ...], dict[str, Any]]]:
    for index, item in enumerate(items or []):
        if isinstance(item, dict):
            yield (*path, index), item


def _meta(
    path: tuple[Key, ...], item: dict[str, Any], schema: str
) -> Iterator[tuple[tuple[Key, ...], Any, str]]:
    meta = (item.get("config") or {}).get("meta")
    if meta is not None:
        yield path, meta, schema


def generic_tests(project_dir: Path, project: YamlFile) -> dict[str, set[str]]:
    """The generic tests that exist, with their arguments."""
    tests = dict(_BUILT_IN_TESTS)
    for path in _paths(project_dir, project, (".sql",)):
        for name, arguments in _GENERIC_TEST.findall(path.read_text(encoding="utf-8")):
            names = {part.partition("=")[0].strip() for part in arguments.split(",")}
            tests[name] = names - {"model", "column_name", ""}
    return tests


def _check_tests(file: YamlFile, tests: Mapping[str, set[str]]) -> list[Problem]:
    problems: list[Problem] = []
    for path, test in _tests(file.content):
        name = test if isinstance(test, str) else test.get("test_name") or next(iter(test))
        if name not in tests:
            message = f"there is no generic test {name!r}{meant(name, sorted(tests))}"
            problems.append(file.problem(path, message))
            continue
        body = test if isinstance(test, str) or "test_name" in test else test[name]
        arguments = body.get("arguments") or {} if isinstance(body, dict) else {}
        at = path if isinstance(test, dict) and "test_name" in test else (*path, name)
        for key in sorted(set(arguments) - tests[name]):
            message = unknown_key(key, dict.fromkeys(tests[name]), {"definitions": {}})
            problems.append(file.problem((*at, "arguments"), message, key=key))
    return problems


def _tests(value: Any, path: tuple[Key, ...] = ()) -> Iterator[tuple[tuple[Key, ...], Any]]:
    """Every generic test of models, sources, seeds and snapshots and of their columns."""
    for section in ("models", "sources", "seeds", "snapshots", "tables", "columns"):
        for item_path, item in _items((*path, section), value.get(section)):
            for key in ("data_tests", "tests"):
                for index, test in enumerate(item.get(key) or []):
                    yield (*item_path, key, index), test
            yield from _tests(item, item_path)
