"""What JSON schema finds wrong, told so that a person can mend it: the place and what was meant."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any, cast

from jsonschema import Draft7Validator
from jsonschema.exceptions import ValidationError

from warehouse.yaml_files import Key, Problem, YamlFile

_KINDS = {"array": "list", "object": "mapping"}


def schema_problems(
    file: YamlFile, schema: dict[str, Any], content: Any = None, base: tuple[Key, ...] = ()
) -> list[Problem]:
    """What a file, or the part of it at `base`, has against a schema."""
    value = file.content if content is None else content
    validator = Draft7Validator(schema)
    return [
        problem
        for error in validator.iter_errors(value)
        for leaf in _leaves(error)
        for problem in _explain(file, schema, leaf, base)
    ]


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    """The errors below an anyOf that say most: those of the branch that was meant."""
    if not error.context:
        yield error
        return
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context:
        leaves = list(_leaves(inner))
        branches.setdefault(inner.schema_path[0], []).extend(leaves)
    others = [leaves for leaves in branches.values() if not _is_of_another_kind(leaves[0], error)]
    if not others:
        yield next(inner for inner in error.context if inner.validator_value != "null")
        return
    yield from max(
        others, key=lambda leaves: (max(len(e.absolute_path) for e in leaves), -len(leaves))
    )


def _is_of_another_kind(leaf: ValidationError, error: ValidationError) -> bool:
    """Whether a branch of an anyOf wants another kind of value altogether."""
    if leaf.absolute_path != error.absolute_path:
        return False
    is_container = isinstance(leaf.instance, (dict, list))
    return leaf.validator == "type" or (leaf.validator == "enum" and is_container)


def _explain(
    file: YamlFile, schema: dict[str, Any], error: ValidationError, base: tuple[Key, ...]
) -> Iterator[Problem]:
    path = [*base, *error.absolute_path]
    if error.validator == "additionalProperties":
        known = cast(dict[str, Any], error.schema).get("properties", {})
        for key in sorted(set(cast(dict[str, Any], error.instance)) - set(known), key=str):
            yield file.problem(path, unknown_key(str(key), known, schema), key=str(key))
    elif error.validator == "required":
        present = cast(dict[str, Any], error.instance)
        missing = [key for key in cast(list[str], error.validator_value) if key not in present]
        yield file.problem(path, f"lacks the key {_names(missing)}")
    else:
        yield file.problem(path, _expectation(error))


def unknown_key(key: str, known: dict[str, Any], schema: dict[str, Any]) -> str:
    """What to say of a key that is not among the known ones."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if close:
        return f"unknown key, did you mean {close[0]!r}?"
    config = known.get("config", {})
    for part in [config, *config.get("anyOf", [])]:
        name = part.get("$ref", "").rpartition("/")[2]
        inner = schema["definitions"].get(name, {}).get("properties", {})
        close = difflib.get_close_matches(key, inner, n=1, cutoff=0.6)
        if close:
            return f"unknown key, did you mean {close[0]!r} under 'config'?"
    if len(known) > 30:
        return "unknown key; dbt knows no such key here"
    return f"unknown key, expected {_names(sorted(known)) or 'none here'}"


def _expectation(error: ValidationError) -> str:
    shown = json.dumps(error.instance, default=str)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    value: Any = error.validator_value
    if error.validator == "enum":
        return f"{shown} is not known here{meant(error.instance, value)}"
    if error.validator == "type":
        kinds: list[str] = value if isinstance(value, list) else [value]
        named = " or ".join(_KINDS.get(kind, kind) for kind in kinds if kind != "null")
        message = f"{shown} is no {named}"
    elif error.validator == "pattern":
        message = f"{shown} has not the form {value}"
    elif error.validator == "dependencies":
        needed = sorted({str(name) for names in value.values() for name in names})
        message = f"{shown} lacks one of {_names(needed)}"
    else:
        message = f"{shown} does not fit"
    described = cast(dict[str, Any], error.schema).get("description")
    return f"{message}. {described}" if described else message


def meant(word: Any, known: list[Any]) -> str:
    """A suggestion, or all that is known when nothing is close."""
    close = difflib.get_close_matches(str(word), [str(value) for value in known], n=1)
    return f", did you mean {close[0]!r}?" if close else f", expected {_names(known)}"


def _names(values: Any) -> str:
    return ", ".join(repr(value) for value in values)
