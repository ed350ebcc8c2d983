"""Source tables from the YAML of models/staging, checked as far as a table can be by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from warehouse.declaration_reader import DeclarationReader
from warehouse.declared import AsOf, Column, ExtractWindow, SourceTable
from warehouse.declared_endpoints import EndpointReader
from warehouse.durations import duration_seconds
from warehouse.yaml_files import Key, YamlFile

DATA_TYPES = ("text", "bigint", "integer", "numeric", "boolean", "date", "timestamptz")
_RAW_COLUMNS = {
    "row_id",
    "record_key",
    "batch_id",
    "record_version",
    "extracted_at",
    "content_hash",
    "is_void",
    "version_rank",
}
_PERIOD_SECONDS = {"minute": 60, "hour": 3600, "day": 86400}
_DIRECTIVES = set("YmdHMSfzbBjyIpg%")
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_COLUMN_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_LONGEST_NAME = 63

_COLUMN_TYPES = {
    "version": ("timestamptz", "bigint", "integer", "date"),
    "extracted_at": ("timestamptz",),
    "void": ("boolean",),
    "date": ("date", "timestamptz"),
    "currency": ("text",),
    "organization": ("text",),
    "as_of": ("timestamptz",),
}


class SourceReader(DeclarationReader):
    """Reads the sources of one file; what is wrong is collected in `problems`."""

    def __init__(self, file: YamlFile, docs: Mapping[str, str], currency: str) -> None:
        super().__init__(file, docs)
        self.currency = currency

    def read(self) -> list[SourceTable]:
        """Every table of every source in the file."""
        folder = self.file.name.split("/")[-2]
        tables: list[SourceTable] = []
        for index, source in enumerate(self.file.content.get("sources") or []):
            path: tuple[Key, ...] = ("sources", index)
            name = source["name"]
            if name != folder or not _NAME.fullmatch(name):
                message = f"{name!r} must be the name of its folder, {folder!r}, in lower case"
                self._problem(path, message, key="name")
            if source.get("schema") != "staging":
                self._problem(path, "raw tables lie in the schema 'staging'", key="schema")
            endpoints = EndpointReader(self.file, path, source)
            for position, table in enumerate(source.get("tables") or []):
                found = self._table(source, table, (*path, "tables", position), endpoints)
                if found is not None:
                    tables.append(found)
            self.problems += endpoints.finish()
        return tables

    def _table(
        self,
        source: dict[str, Any],
        table: dict[str, Any],
        path: tuple[Key, ...],
        endpoints: EndpointReader,
    ) -> SourceTable | None:
        engine, name = source["name"], table["name"]
        relation = f"{engine}__{name}"
        if table.get("identifier") != relation:
            self._problem(path, f"must be {relation!r}, <engine>__<table>", key="identifier")
        if not _NAME.fullmatch(name) or len(relation) > _LONGEST_NAME:
            message = f"{name!r} must be lower_case and, with its engine, at most 63 characters"
            self._problem(path, message, key="name")
        at = (*path, "config", "meta", "landing")
        landing = _merged(source, table)
        missing = [key for key in ("files", "mode", "key", "organization") if key not in landing]
        if missing:
            self._problem(at, f"lacks {', '.join(map(repr, missing))} (the source has none either)")
            return None
        columns = self._columns(table, path, landing)
        self._check_landing(landing, columns, at)
        retention = landing.get("retention") or {}
        return SourceTable(
            engine=engine,
            name=name,
            relation=relation,
            description=self._description(path, table),
            files=tuple(landing["files"]),
            mode=landing["mode"],
            key=tuple(landing["key"]),
            columns=tuple(columns.values()),
            organization_value=landing["organization"].get("value"),
            organization_column=landing["organization"].get("column"),
            version_column=_column_of(landing, "version"),
            extracted_at=_column_of(landing, "extracted_at"),
            void_column=_column_of(landing, "void"),
            date_column=_column_of(landing, "date"),
            currency_column=_column_of(landing, "currency"),
            window=_window(landing.get("window")),
            as_of=_as_of(landing.get("as_of")),
            zone=landing.get("zone"),
            final_newline=landing.get("final_newline", "required"),
            delimiter=landing.get("delimiter", ","),
            encoding=landing.get("encoding", "utf-8"),
            max_void_share=landing.get("max_void_share", 0.2),
            max_rejected_share=landing.get("max_rejected_share", 0.01),
            freshness_limit_seconds=_freshness_limit(source, table),
            superseded_kept_seconds=(
                duration_seconds(retention["superseded"]) if "superseded" in retention else None
            ),
            may_retire_closed_days=retention.get("closed_days", False) and "date" in landing,
            endpoint=endpoints.read(
                path, table, landing, {name: column.data_type for name, column in columns.items()}
            ),
        )

    def _columns(
        self, table: dict[str, Any], path: tuple[Key, ...], landing: dict[str, Any]
    ) -> dict[str, Column]:
        columns: dict[str, Column] = {}
        for index, item in enumerate(table.get("columns") or []):
            at: tuple[Key, ...] = (*path, "columns", index)
            meta = (item.get("config") or {}).get("meta") or {}
            name, data_type = item["name"], item.get("data_type")
            if name in columns:
                self._problem(at, "is declared twice")
            if not _COLUMN_NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
                self._problem(at, f"{name!r} must be lower_case, at most 63 characters", key="name")
            if name in _RAW_COLUMNS:
                self._problem(at, f"{name!r} is a column of every raw table already", key="name")
            if data_type not in DATA_TYPES:
                self._problem(at, f"must be one of {', '.join(DATA_TYPES)}", key="data_type")
            in_key = name in (*landing["key"], landing["organization"].get("column"))
            if in_key and (meta.get("volatile") or meta.get("optional")):
                self._problem(at, "is part of the key and so is neither volatile nor optional")
            columns[name] = Column(
                name=name,
                data_type=str(data_type),
                description=self._description(at, item),
                formats=tuple(meta.get("formats", ())),
                zone=self._zone(at, str(data_type), meta, landing),
                is_volatile=meta.get("volatile", False),
                is_required=in_key or meta.get("required", False),
                is_optional=meta.get("optional", False),
                parent=meta.get("parent"),
                scope=meta.get("scope"),
            )
        if not columns:
            self._problem(path, "declares no columns")
        return columns

    def _zone(
        self, path: tuple[Key, ...], data_type: str, meta: dict[str, Any], landing: dict[str, Any]
    ) -> str | None:
        """The zone of a timestamp that is written without one; None where none is needed."""
        formats = meta.get("formats", [])
        at = (*path, "config", "meta")
        for text in formats:
            unknown = set(re.findall(r"%(.)", text)) - _DIRECTIVES
            if unknown:
                self._problem(at, f"{text!r} has the unknown %{min(unknown)}", key="formats")
        if data_type not in ("date", "timestamptz"):
            for key in ("formats", "zone"):
                if key in meta:
                    self._problem(at, f"a column of type {data_type} has none", key=key)
            return None
        if data_type == "date":
            if "zone" in meta:
                message = "a date is the engine's calendar day and is never shifted"
                self._problem(at, message, key="zone")
            return None
        zone = meta.get("zone", landing.get("zone"))
        if zone is not None and not is_zone(zone):
            self._problem(at, f"{zone!r} is no IANA zone, such as UTC or Europe/Berlin")
        if zone is None and not (formats and all("%z" in text for text in formats)):
            message = (
                "is a timestamp whose zone is neither in its formats (%z) nor declared;"
                " add `zone` to the column, the table or the source"
            )
            self._problem(path, message)
        return zone if not formats or any("%z" not in text for text in formats) else None

    def _check_landing(
        self, landing: dict[str, Any], columns: dict[str, Column], path: tuple[Key, ...]
    ) -> None:
        for name, key in _named_columns(landing):
            if name not in columns:
                self._problem(path, f"{key}: there is no column {name!r}", key=key)
                continue
            kinds = _COLUMN_TYPES.get(key, DATA_TYPES)
            if columns[name].data_type not in kinds:
                message = f"{key}: {name!r} must be of type {' or '.join(kinds)}"
                self._problem(path, message, key=key)
            if key in ("version", "extracted_at") and not columns[name].is_required:
                message = f"{key}: {name!r} must be `required`, or newest would be a guess"
                self._problem(path, message, key=key)
        if landing.get("currency", {}).get("value", self.currency) != self.currency:
            self._problem(path, f"amounts must be in {self.currency}", key="currency")
        is_snapshot = landing["mode"] == "snapshot"
        for key in ("window", "as_of"):
            if (key in landing) != is_snapshot:
                message = f"a snapshot needs {key!r}" if is_snapshot else f"append has no {key!r}"
                self._problem(path, message, key=key if key in landing else None)
        if is_snapshot and landing.get("window") != "all" and "date" not in landing:
            self._problem(path, "a window needs `date`, the column that it speaks of")
        for key, groups in (("window", {"from", "to"}), ("as_of", {"as_of"})):
            value = landing.get(key)
            if isinstance(value, dict) and "file_name" in value:
                self._check_pattern(value["file_name"], groups, (*path, key))

    def _check_pattern(self, pattern: str, groups: set[str], path: tuple[Key, ...]) -> None:
        try:
            missing = groups - set(re.compile(pattern).groupindex)
        except re.error as error:
            self._problem(path, f"is no regular expression: {error}", key="file_name")
            return
        if missing:
            expected = " and ".join(f"(?P<{name}>..)" for name in sorted(missing))
            self._problem(path, f"lacks the group {expected}", key="file_name")


def _merged(source: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """The table's landing over the source's defaults, key by key."""
    merged: dict[str, Any] = {}
    for item in (source, table):
        merged |= ((item.get("config") or {}).get("meta") or {}).get("landing") or {}
    return merged


def _named_columns(landing: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The columns that a landing names, each with the key that names it."""
    for name in landing["key"]:
        yield name, "key"
    for key in _COLUMN_TYPES:
        name = _column_of(landing, key)
        if name is not None:
            yield name, key
    window = landing.get("window")
    if isinstance(window, dict):
        for name in window.get("columns", {}).values():
            yield name, "window"


def _column_of(landing: dict[str, Any], key: str) -> str | None:
    value = landing.get(key)
    return value.get("column") if isinstance(value, dict) else None


def _window(value: Any) -> ExtractWindow | None:
    if value is None or isinstance(value, str):
        return ExtractWindow(kind="all" if value == "all" else "control_file") if value else None
    if "columns" in value:
        columns = value["columns"]
        return ExtractWindow(kind="columns", from_column=columns["from"], to_column=columns["to"])
    return ExtractWindow(kind="file_name", pattern=value["file_name"])


def _as_of(value: Any) -> AsOf | None:
    if value is None or isinstance(value, str):
        return AsOf(kind="control_file") if value else None
    if "column" in value:
        return AsOf(kind="column", column=value["column"])
    return AsOf(kind="file_name", pattern=value["file_name"])


def _freshness_limit(source: dict[str, Any], table: dict[str, Any]) -> int | None:
    for item in (table, source):
        limit = ((item.get("config") or {}).get("freshness") or {}).get("error_after") or {}
        if limit.get("count") and limit.get("period"):
            return int(limit["count"]) * _PERIOD_SECONDS[limit["period"]]
    return None


def is_zone(name: str) -> bool:
    """Whether a zone of that name exists here; UTC does even without a zone database."""
    try:
        return name == "UTC" or ZoneInfo(name) is not None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
