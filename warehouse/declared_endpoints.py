"""Endpoints from the YAML of models/staging: an engine's defaults and each table's own, checked."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import Any

from warehouse.durations import cadence_problem, duration_seconds
from warehouse.endpoints import AnsweredWindow, AskedWindow, Endpoint, Paging, Place, Since
from warehouse.yaml_files import Key, Problem, YamlFile

_OF_SOURCE = ("url", "auth", "cadence", "requests_per_second", "timeout")
_SUFFIXES = {"json": ".jsonl", "jsonl": ".jsonl", "csv": ".csv"}


def extract_name(patterns: Sequence[str], file_format: str, mark: str = "pull") -> str | None:
    """A file name that one of the patterns of `files` takes, for what a pull brings; else None."""
    suffix = _SUFFIXES[file_format]
    for pattern in patterns:
        stem = re.sub(r"[*?]+", f"_{mark}", pattern.removesuffix(suffix))
        name = stem + suffix
        if fnmatch.fnmatchcase(name, pattern):
            return name
    return None


class EndpointReader:
    """Reads the endpoints of one source; what is wrong is collected in `problems`."""

    def __init__(self, file: YamlFile, source_path: tuple[Key, ...], source: Any) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._at_source = (*source_path, "config", "meta", "landing")
        self._defaults: dict[str, Any] = dict(_endpoint(source))
        self._is_used = False
        self._untils: list[tuple[Key, ...]] = []
        self._has_snapshot = False

    def read(
        self,
        path: tuple[Key, ...],
        table: dict[str, Any],
        landing: Mapping[str, Any],
        types: Mapping[str, str],
    ) -> Endpoint | None:
        """The endpoint of the table at `path`; None when it is not asked for.

        `landing` is the table's over the source's, `types` are the data types of its columns.
        """
        own = _endpoint(table)
        at = (*path, "config", "meta", "landing", "endpoint")
        if not own:
            return None
        self._is_used = True
        for key in _OF_SOURCE:
            if key in own:
                self._problem(at, "belongs to the endpoint of the source", key=key)
        merged = self._defaults | own
        missing = [key for key in ("url", "cadence") if key not in self._defaults]
        if missing:
            names = " and ".join(map(repr, missing))
            self._problem(at, f"needs {names} in the endpoint of its source")
        if "path" not in own:
            self._problem(at, "lacks the key 'path'")
        if missing or "path" not in own:
            return None
        self._check(at, merged, landing, types)
        auth = merged.get("auth") or {}
        return Endpoint(
            url_variable=merged["url"],
            cadence=merged["cadence"],
            path=merged["path"],
            format=merged.get("format", "json"),
            rows=merged.get("rows"),
            header=auth.get("header"),
            scheme=auth.get("scheme"),
            secret_variable=auth.get("secret"),
            requests_per_second=float(merged.get("requests_per_second", 10)),
            timeout_seconds=duration_seconds(merged.get("timeout", "60s")),
            max_pages=merged.get("max_pages", 10_000),
            max_bytes=merged.get("max_bytes", 64 << 20),
            paging=_paging(merged.get("paging")),
            since=_since(merged.get("since")),
            until=merged.get("until"),
            window=_window(merged.get("window")),
            answered=_answered(merged.get("answered")),
        )

    def finish(self) -> list[Problem]:
        """Every problem, those of the source's own endpoint included."""
        at = (*self._at_source, "endpoint")
        for key in ("path", "until"):
            if key in self._defaults:
                self._problem(at, "belongs to the endpoint of a table", key=key)
        for table in self._untils if not self._has_snapshot else ():
            message = "needs a snapshot with an endpoint whose answers say `as_of`"
            self._problem(table, message, key="until")
        if self._defaults and not self._is_used:
            self._problem(at, "no table of the source has an endpoint with a path")
        if "cadence" in self._defaults:
            problem = cadence_problem(self._defaults["cadence"])
            if problem is not None:
                self._problem(at, problem, key="cadence")
        return self.problems

    def _check(
        self,
        at: tuple[Key, ...],
        merged: dict[str, Any],
        landing: Mapping[str, Any],
        types: Mapping[str, str],
    ) -> None:
        kind = merged.get("format", "json")
        names = [extract_name(landing["files"], kind, mark) for mark in ("pull_1", "pull_2")]
        is_one_a_page = kind == "csv" and merged.get("paging") is not None
        if None in names or (is_one_a_page and len(set(names)) == 1):
            each = " for each page" if is_one_a_page else ", which a pull writes"
            message = f"no pattern of `files` takes a {_SUFFIXES[kind]} file{each}"
            self._problem(at, message, key="format" if "format" in merged else None)
        if kind != "json" and "rows" in merged:
            self._problem(at, f"{kind} has no keys that lead to rows", key="rows")
        paging = merged.get("paging")
        if paging is not None and ("cursor" in paging) == ("page" in paging):
            self._problem(at, "needs either 'cursor' or 'page'", key="paging")
        for key, place in _places(merged):
            if kind != "json" and "body" in place:
                self._problem(at, f"{key}: {kind} can say it in a header only", key=key)
        if "since" in merged:
            column = merged["since"]["column"]
            if types.get(column) not in ("date", "timestamptz"):
                message = f"since: {column!r} must be a column of type date or timestamptz"
                self._problem(at, message, key="since")
        if "until" in merged:
            self._untils.append(at)
        if landing["mode"] == "snapshot":
            self._has_snapshot |= "answered" in merged
            self._check_snapshot(at, merged, landing)
        elif "answered" in merged:
            self._problem(at, "belongs to a snapshot", key="answered")

    def _check_snapshot(
        self, at: tuple[Key, ...], merged: dict[str, Any], landing: Mapping[str, Any]
    ) -> None:
        for key in ("since", "until"):
            if key in merged:
                self._problem(at, "a snapshot holds all records of its window", key=key)
        answered = merged.get("answered", {})
        for key, said in (("as_of", "as_of"), ("window", "from")):
            declared = landing.get(key)
            if isinstance(declared, dict) and "file_name" in declared:
                message = f"the file name that {key} asks for is not written by a pull"
                self._problem(at[:-1], message, key=key)
            if declared == "control_file" and said not in answered:
                message = f"`{key}: control_file` needs `answered: {{{said}: ...}}` here"
                self._problem(at, message, key="answered" if answered else None)

    def _problem(self, path: tuple[Key, ...], message: str, *, key: str | None = None) -> None:
        self.problems.append(self.file.problem(path, message, key=key))


def _endpoint(item: dict[str, Any]) -> dict[str, Any]:
    landing = ((item.get("config") or {}).get("meta") or {}).get("landing") or {}
    return landing.get("endpoint") or {}


def _places(merged: dict[str, Any]) -> list[tuple[str, dict[str, str]]]:
    found = [("answered", place) for place in merged.get("answered", {}).values()]
    if "cursor" in (merged.get("paging") or {}):
        found.append(("paging", merged["paging"]["cursor"]["next"]))
    return found


def _place(declared: dict[str, str] | None) -> Place | None:
    if declared is None:
        return None
    ((kind, name),) = declared.items()
    return Place(kind="header" if kind == "header" else "body", name=name)


def _paging(declared: dict[str, Any] | None) -> Paging | None:
    if declared is None:
        return None
    is_cursor = "cursor" in declared
    how = declared["cursor"] if is_cursor else declared.get("page", {"parameter": ""})
    size = declared.get("size") or {}
    return Paging(
        kind="cursor" if is_cursor else "page",
        parameter=how["parameter"],
        next=_place(how.get("next")),
        first=how.get("first", 1),
        size_parameter=size.get("parameter"),
        size=size.get("rows"),
    )


def _since(declared: dict[str, str] | None) -> Since | None:
    if declared is None:
        return None
    return Since(
        parameter=declared["parameter"],
        column=declared["column"],
        overlap_seconds=duration_seconds(declared["overlap"]),
    )


def _window(declared: dict[str, str] | None) -> AskedWindow | None:
    if declared is None:
        return None
    return AskedWindow(from_parameter=declared["from"], to_parameter=declared["to"])


def _answered(declared: dict[str, Any] | None) -> AnsweredWindow | None:
    if declared is None:
        return None
    as_of = _place(declared["as_of"])
    assert as_of is not None
    return AnsweredWindow(
        as_of=as_of, from_day=_place(declared.get("from")), to_day=_place(declared.get("to"))
    )
