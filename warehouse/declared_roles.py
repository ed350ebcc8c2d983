"""The roles of callers: a seed, so that the checkout alone says who may do what."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from warehouse.declared import Role
from warehouse.yaml_files import Problem

FILE = "seeds/roles.csv"
_COLUMNS = ["role", "description", "may_operate", "may_administer"]
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_BOOLEANS = {"true": True, "false": False}


def read_roles(project_dir: Path) -> tuple[tuple[Role, ...], list[Problem]]:
    """The roles of a project by name, and what is wrong in their file."""
    try:
        with (project_dir / FILE).open(encoding="utf-8", newline="") as file:
            rows = list(_numbered(csv.reader(file, strict=True)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return (), [Problem(file=FILE, line=1, path="", message=f"can't be read: {error}")]
    if not rows or rows[0][1] != _COLUMNS:
        message = f"the first line must be {','.join(_COLUMNS)}"
        return (), [Problem(file=FILE, line=1, path="", message=message)]
    roles: dict[str, Role] = {}
    problems: list[Problem] = []
    for line, row in rows[1:]:
        problem = _problem(row, roles)
        if problem is not None:
            key, message = problem
            problems.append(Problem(file=FILE, line=line, path=key, message=message))
            continue
        name, description, may_operate, may_administer = row
        roles[name] = Role(
            name=name,
            description=description,
            may_operate=_BOOLEANS[may_operate],
            may_administer=_BOOLEANS[may_administer],
        )
    if not roles and not problems:
        problems.append(Problem(file=FILE, line=1, path="", message="there is no role"))
    return tuple(role for _, role in sorted(roles.items())), problems


def _numbered(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not empty with the number of its (last) line."""
    for row in reader:
        if row:
            yield reader.line_num, row  # type: ignore[attr-defined]


def _problem(row: list[str], roles: dict[str, Role]) -> tuple[str, str] | None:
    """The column that is wrong, and why."""
    if len(row) != len(_COLUMNS):
        return "", f"has {len(row)} values; {len(_COLUMNS)} are expected"
    name, _, *booleans = row
    if not _NAME.fullmatch(name):
        return "role", f"{name!r} is no name; use a-z, 0-9 and _"
    if name in roles:
        return "role", f"{name!r} is there twice"
    for column, value in zip(_COLUMNS[2:], booleans, strict=True):
        if value not in _BOOLEANS:
            return column, f"{value!r} must be true or false"
    return None
