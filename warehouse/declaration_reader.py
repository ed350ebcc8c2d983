"""What the readers of sources and of models share: problems with their place, and descriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from warehouse.yaml_files import Key, Problem, YamlFile

_DOC = re.compile(r"{{\s*doc\(\s*['\"](\w+)['\"]\s*\)\s*}}")


class DeclarationReader:
    """Reads one file; what is wrong is collected in `problems`, to be told all at once."""

    def __init__(self, file: YamlFile, docs: Mapping[str, str]) -> None:
        self.file = file
        self.docs = docs
        self.problems: list[Problem] = []

    def _problem(self, path: tuple[Key, ...], message: str, *, key: str | None = None) -> None:
        self.problems.append(self.file.problem(path, message, key=key))

    def _description(self, path: tuple[Key, ...], item: dict[str, Any]) -> str:
        """An item's description with its docs blocks put in; a missing one is a problem."""
        text = item.get("description") or ""
        if not text:
            self._problem(path, "lacks a description")
        for name in _DOC.findall(text):
            if name not in self.docs:
                message = f"there is no docs block {name!r} in the .md files of models"
                self._problem(path, message, key="description")
        text = _DOC.sub(lambda match: self.docs.get(match[1], ""), text)
        return " ".join(text.split())
