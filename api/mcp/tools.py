"""Tools from the API's OpenAPI document: one per mart, and those that tell of marts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mcp_types import Tool, ToolAnnotations

REPORTING = "/api/reporting/v1/"
MARTS = REPORTING + "marts"
_FRESHNESS = REPORTING + "metadata/refresh"
_PARITY = REPORTING + "metadata/parity"
DEFAULT_ROWS = 50
MOST_ROWS = 200
CURSOR = "cursor"
PAGE_SIZE = "pageSize"
_NAMES = {MARTS: "list_marts", _FRESHNESS: "get_freshness", _PARITY: "get_parity"}
_HINTS = {
    MARTS: "Start here: what there is, with columns and limits; `operation_id` is the tool's name"
    " (get_parity for parity_results).",
    _FRESHNESS: "Ask it when figures seem old or a result says that it is late.",
    _PARITY: "Ask it when a result says that parity failed or is unchecked.",
}
_ARGUMENTS = {"page": CURSOR, "page_size": PAGE_SIZE}
_COMPONENT = "#/components/schemas/"
_CURSOR_SCHEMA: dict[str, Any] = {
    "type": "string",
    "description": "next_page of the result before, to read on; every other argument stays as it"
    " was.",
}
_PAGE_SIZE_SCHEMA: dict[str, Any] = {
    "type": "integer",
    "minimum": 1,
    "maximum": MOST_ROWS,
    "default": DEFAULT_ROWS,
    "description": "Rows per result. Results are kept small: where so many rows would be too long,"
    " fewer come, and `truncated` says so.",
}
_ADDED = {
    "truncated": {
        "type": "boolean",
        "description": "Whether there is more: call again with `cursor` set to next_page.",
    },
    "next_page": {
        "type": ["string", "null"],
        "description": "The `cursor` of the next call; null when this is the end.",
    },
}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A tool and the GET that it stands for; `parameters` maps its arguments to the API's names."""

    tool: Tool
    path: str
    parameters: Mapping[str, str]

    @property
    def is_paged(self) -> bool:
        """Whether the API itself pages what this reads."""
        return PAGE_SIZE in self.parameters

    def argument(self, parameter: str) -> str:
        """What the tool calls a parameter of the API."""
        return next((a for a, name in self.parameters.items() if name == parameter), parameter)


def operations(document: Mapping[str, Any], readable: Collection[str]) -> dict[str, Operation]:
    """The tools of a document, by name; of the marts those whose path is readable."""
    found = [
        _operation(document, path, item["get"])
        for path, item in document["paths"].items()
        if "get" in item
        and (path in (MARTS, _FRESHNESS) or (path in readable and path.startswith(REPORTING)))
    ]
    return {operation.tool.name: operation for operation in found}


def _operation(document: Mapping[str, Any], path: str, described: Mapping[str, Any]) -> Operation:
    parameters = [_resolved(document, item) for item in described.get("parameters", ())]
    query = [item for item in parameters if item["in"] == "query"]
    properties = {_argument(item["name"]): _input(item) for item in query}
    properties[CURSOR] = dict(_CURSOR_SCHEMA)
    required = [_argument(item["name"]) for item in query if item.get("required")]
    if PAGE_SIZE in properties:
        properties[PAGE_SIZE] = dict(_PAGE_SIZE_SCHEMA)
    schema = _resolved(
        document, described["responses"]["200"]["content"]["application/json"]["schema"]
    )
    name = _NAMES.get(path, described["operationId"])
    title = described.get("summary") or name.replace("_", " ").capitalize()
    tool = Tool(
        name=name,
        title=title,
        description=_description(document, path, described, schema),
        input_schema={
            "type": "object",
            "properties": properties,
            **({"required": required} if required else {}),
            "additionalProperties": False,
        },
        output_schema=_output(document, schema),
        annotations=ToolAnnotations(
            title=title,
            read_only_hint=True,
            destructive_hint=False,
            idempotent_hint=True,
            open_world_hint=False,
        ),
    )
    names = {_argument(item["name"]): str(item["name"]) for item in query}
    return Operation(tool=tool, path=path, parameters=names)


def _argument(parameter: str) -> str:
    """partner_id as partnerId."""
    camel = re.sub(r"_+([a-z0-9])", lambda match: match.group(1).upper(), parameter)
    return _ARGUMENTS.get(parameter, camel)


def _input(parameter: Mapping[str, Any]) -> dict[str, Any]:
    schema = dict(parameter.get("schema", {}))
    if text := parameter.get("description"):
        schema["description"] = text
    return schema


def _description(
    document: Mapping[str, Any],
    path: str,
    described: Mapping[str, Any],
    schema: Mapping[str, Any],
) -> str:
    """What a model reads to choose; many hosts show it no output schema, so columns are named."""
    rows = _resolved(document, schema.get("properties", {}).get("data", {}).get("items", {}))
    columns = ", ".join(rows.get("properties", {}))
    # Of a mart, what its rows are: the operation also tells of forms that no tool asks for.
    text = rows.get("description") or described.get("description") or described.get("summary", "")
    parts = [text, _HINTS.get(path, "")]
    if columns:
        parts.append(f"Columns: {columns}.")
    if path not in (MARTS, _FRESHNESS):
        parts.append("Every result says how fresh it is and whether it agrees with the engines.")
    return " ".join(part.strip() for part in parts if part)


def _output(document: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The API's own schema, with what the adapter adds, and with what it refers to inside it."""
    own = {**schema, "properties": {**_ADDED, **schema.get("properties", {})}}
    own["required"] = list(dict.fromkeys([*schema.get("required", ()), *_ADDED]))
    definitions: dict[str, Any] = {}
    root = _moved(document, own, definitions)
    return {**root, "$defs": definitions} if definitions else dict(root)


def _moved(document: Mapping[str, Any], value: Any, definitions: dict[str, Any]) -> Any:
    """A schema whose references to components point to `$defs`, which gathers what they name."""
    if isinstance(value, list):
        return [_moved(document, item, definitions) for item in value]
    if not isinstance(value, Mapping):
        return value
    target = value.get("$ref")
    if isinstance(target, str) and target.startswith(_COMPONENT):
        name = target.removeprefix(_COMPONENT)
        if name not in definitions:
            definitions[name] = {}
            definitions[name] = _moved(document, _resolved(document, value), definitions)
        rest = {key: item for key, item in value.items() if key != "$ref"}
        return {**rest, "$ref": f"#/$defs/{name}"}
    return {key: _moved(document, item, definitions) for key, item in value.items()}


def _resolved(document: Mapping[str, Any], value: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reference into the document points to; anything else as it is."""
    while "$ref" in value:
        found: Any = document
        for part in str(value["$ref"]).removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value
