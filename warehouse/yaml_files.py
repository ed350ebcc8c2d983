"""YAML with the place of every key, because an error in a declaration must say where it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Key = str | int
# libyaml's parser is ten times as fast; a few platforms' PyYAML comes without it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong in a declaration: where, and what was expected."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}"
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class YamlFile:
    """A parsed file; `node` keeps the places, `content` the values."""

    name: str
    content: Any
    node: yaml.Node | None

    def problem(self, path: Sequence[Key], message: str, *, key: str | None = None) -> Problem:
        """A problem at `path`, or at the key `key` below it."""
        where = [*path, key] if key is not None else list(path)
        return Problem(
            file=self.name, line=self._line(where), path=self._readable(where), message=message
        )

    def _line(self, path: Sequence[Key]) -> int:
        node, line = self.node, 1
        for key in path:
            if isinstance(node, yaml.MappingNode):
                found = [(k, v) for k, v in node.value if k.value == str(key)]
                if not found:
                    break
                line, node = found[0][0].start_mark.line + 1, found[0][1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
                node = node.value[key]
                line = node.start_mark.line + 1
            else:
                break
        return line

    def _readable(self, path: Sequence[Key]) -> str:
        """`tables[campaign_report].columns[date].config`: items by name where they have one."""
        text, value = "", self.content
        for key in path:
            if isinstance(value, list) and isinstance(key, int):
                value = value[key]
                name = value.get("name") if isinstance(value, dict) else None
                text += f"[{name or key}]"
            else:
                value = value.get(key) if isinstance(value, dict) else None
                text += f".{key}" if text else str(key)
        return text


def read_yaml(path: Path, name: str) -> tuple[YamlFile, list[Problem]]:
    """Parse one file as dbt would; a key given twice is a problem, though YAML takes the last."""
    try:
        text = path.read_text(encoding="utf-8")
        loader = _Loader(text)
        node = loader.get_single_node()
        content = loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        message = f"is not valid YAML: {error.problem or error.context}"
        return _empty(name), [Problem(file=name, line=line, path="", message=message)]
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        message = f"is not valid YAML: {' '.join(str(error).split())}"
        return _empty(name), [Problem(file=name, line=1, path="", message=message)]
    except OSError as error:
        return _empty(name), [
            Problem(file=name, line=1, path="", message=f"can't be read: {error.strerror}")
        ]
    problems = [
        Problem(file=name, line=line, path=key, message="is given twice; keep one of them")
        for key, line in _repeated_keys(node)
    ]
    return YamlFile(name=name, content=content, node=node), problems


def _empty(name: str) -> YamlFile:
    return YamlFile(name=name, content=None, node=None)


def _repeated_keys(node: yaml.Node | None, path: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            where = f"{path}.{name}" if path else name
            if name in seen:
                yield where, key.start_mark.line + 1
            seen.add(name)
            yield from _repeated_keys(value, where)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _repeated_keys(item, f"{path}[{index}]")
