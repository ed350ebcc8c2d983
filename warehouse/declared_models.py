"""Feeds and marts from the YAML of models, with the SQL that they stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from warehouse.declaration_reader import DeclarationReader
from warehouse.declared import FEEDS, Feed, Mart, MartColumn, MartWindow, SourceTable
from warehouse.durations import cadence_problem, duration_seconds
from warehouse.yaml_files import Key, YamlFile

_DAY = 86400
_SOURCE_CALL = re.compile(r"source\(\s*['\"](\w+)['\"]\s*,\s*['\"](\w+)['\"]\s*\)")

# What the API answers itself below /api/reporting/v1, and the parameters that it gives to marts.
RESERVED_PATHS = ("marts", "metadata/refresh")
RESERVED_PARAMETERS = frozenset({"from", "to", "week", "fields", "page", "page_size"})


class ModelReader(DeclarationReader):
    """Reads the feeds and marts of one file; what is wrong is collected in `problems`."""

    def __init__(self, file: YamlFile, project_dir: Path, docs: Mapping[str, str]) -> None:
        super().__init__(file, docs)
        self.folder = project_dir / Path(file.name).parent

    def feeds(self, tables: Sequence[SourceTable]) -> list[Feed]:
        """Every feed of the file, its SQL held against the declared `tables`."""
        engine = self.folder.name
        found: list[Feed] = []
        for path, model, meta in self._models():
            name = model["name"]
            feed = name.rpartition("__")[2]
            is_feed = name == f"stg_{engine}__{feed}" and feed in FEEDS
            if "feed" not in meta:
                if is_feed:
                    self._problem(path, f"is the feed {feed!r} but declares no config.meta.feed")
                continue
            if not is_feed:
                message = f"a feed is called stg_{engine}__<{' | '.join(FEEDS)}>"
                self._problem(path, message, key="name")
                continue
            declared = meta["feed"]
            if ("controls" in declared) != (feed == "control_totals"):
                message = "`controls` belongs to feeds of control totals, and to each of them"
                self._problem((*path, "config", "meta", "feed"), message)
            sql = self._sql(path, name)
            sources = self._feed_sources(path, sql, engine, declared["records_from"], tables)
            call = f"{feed}_feed__{engine}()"
            if sql and call not in sql.splitlines()[0]:
                self._problem(path, f"the first line of {name}.sql must be the macro {call}")
            found.append(
                Feed(
                    engine=engine,
                    name=feed,
                    model=name,
                    records_from=declared["records_from"],
                    sources=sources,
                )
            )
        return found

    def marts(self) -> list[Mart]:
        """Every mart of the file."""
        found: list[Mart] = []
        for path, model, meta in self._models():
            if "mart" not in meta:
                message = "a model in models/reporting needs config.meta.mart; only marts lie there"
                self._problem(path, message)
                continue
            self._sql(path, model["name"])
            found.append(self._mart(path, model, meta["mart"]))
        return found

    def _models(self) -> list[tuple[tuple[Key, ...], dict[str, Any], dict[str, Any]]]:
        return [
            (("models", index), model, (model.get("config") or {}).get("meta") or {})
            for index, model in enumerate(self.file.content.get("models") or [])
        ]

    def _sql(self, path: tuple[Key, ...], name: str) -> str:
        try:
            return (self.folder / f"{name}.sql").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            self._problem(path, f"there is no readable {name}.sql beside this file", key="name")
            return ""

    def _feed_sources(
        self,
        path: tuple[Key, ...],
        sql: str,
        engine: str,
        records_from: str,
        tables: Sequence[SourceTable],
    ) -> tuple[str, ...]:
        """The tables that the SQL reads; each must be `records_from` or a parent above it."""
        own = {table.name: table for table in tables if table.engine == engine}
        at = (*path, "config", "meta", "feed")
        if records_from not in own:
            message = f"there is no source table {records_from!r} in {engine}"
            self._problem(at, message, key="records_from")
            return ()
        reachable: set[str] = set()
        waiting = [records_from]
        while waiting:
            name = waiting.pop()
            if name in own and name not in reachable:
                reachable.add(name)
                parents = [column.parent for column in own[name].columns if column.parent]
                waiting.extend(parent.partition(".")[0] for parent in parents)
        read: set[str] = set()
        for source, table in _SOURCE_CALL.findall(sql):
            read.add(table)
            if source != engine or table not in reachable:
                message = (
                    f"reads {source}.{table}, which no `parent` of a column leads to from"
                    f" {records_from}: its changes would never reach a mart"
                )
                self._problem(path, message)
        if sql and records_from not in read:
            message = f"the SQL does not read {records_from!r}, whose records it claims to emit"
            self._problem(at, message, key="records_from")
        return tuple(sorted(read))

    def _mart(self, path: tuple[Key, ...], model: dict[str, Any], declared: dict[str, Any]) -> Mart:
        at = (*path, "config", "meta", "mart")
        columns = self._columns(path, model)
        types = {column.name: column.data_type for column in columns}
        scope = declared["scope"]
        for key, names in (
            ("grain", declared["grain"]),
            ("filters", declared.get("filters", [])),
            ("scope", scope.values()),
            ("window", [declared["window"]["column"]] if "window" in declared else []),
        ):
            for name in names:
                if name not in types:
                    message = f"there is no column {name!r} in the mart"
                    self._problem(at, message, key=key)
                elif key == "scope" and types[name] != "text":
                    self._problem(at, f"{name!r} must be of type text", key=key)
                elif key == "window" and types[name] != "date":
                    self._problem(at, f"{name!r} must be of type date", key=key)
        if declared["grain"][0] != "organization_id" or scope.get("organization") is None:
            message = "starts with organization_id, and scope holds {organization: organization_id}"
            self._problem(at, message, key="grain")
        for name in sorted(RESERVED_PARAMETERS.intersection(declared.get("filters", []))):
            self._problem(at, f"{name!r} is a parameter of every mart already", key="filters")
        served_at = declared.get("path", model["name"].replace("_", "-"))
        if served_at in RESERVED_PATHS:
            self._problem(at, f"the API serves something else at {served_at!r}", key="path")
        keys = declared.get("keys", {})
        for name in sorted(set(keys) - set(declared["grain"])):
            self._problem((*at, "keys"), "is no column of the grain", key=name)
        if declared.get("parity") and not any(column.control for column in columns):
            self._problem(at, "no column says its `control`, so nothing is compared", key="parity")
        return Mart(
            name=model["name"],
            path=served_at,
            description=self._description(path, model),
            grain=tuple(declared["grain"]),
            columns=columns,
            cadence=self._cadence(at, declared["cadence"]),
            freshness_sla_seconds=duration_seconds(declared["freshness_sla"]),
            refresh=declared["refresh"],
            scope=dict(scope),
            readers=tuple(declared["readers"]),
            window=self._window(at, declared.get("window")),
            filters=tuple(declared.get("filters", ())),
            keys=dict(keys),
            parity=declared.get("parity"),
        )

    def _columns(self, path: tuple[Key, ...], model: dict[str, Any]) -> tuple[MartColumn, ...]:
        columns: list[MartColumn] = []
        for index, item in enumerate(model.get("columns") or []):
            at: tuple[Key, ...] = (*path, "columns", index)
            meta = (item.get("config") or {}).get("meta") or {}
            if any(column.name == item["name"] for column in columns):
                self._problem(at, "is declared twice")
            if not item.get("data_type"):
                self._problem(at, "lacks a data_type")
            columns.append(
                MartColumn(
                    name=item["name"],
                    data_type=item.get("data_type") or "",
                    description=self._description(at, item),
                    is_required=any(
                        constraint.get("type") == "not_null"
                        for constraint in item.get("constraints") or []
                    ),
                    control=meta.get("control"),
                    kind=meta.get("kind"),
                    values=_accepted_values(item.get("data_tests") or []),
                )
            )
        return tuple(columns)

    def _cadence(self, path: tuple[Key, ...], text: str) -> str | None:
        if text == "live":
            return None
        problem = cadence_problem(text)
        if problem is not None:
            self._problem(path, problem, key="cadence")
        return text

    def _window(self, path: tuple[Key, ...], declared: dict[str, Any] | None) -> MartWindow | None:
        if declared is None:
            return None
        most = duration_seconds(declared.get("max", "92d")) // _DAY
        default = duration_seconds(declared.get("default", "30d")) // _DAY
        if default > most:
            message = f"{default} days are longer than the longest window, {most} days"
            self._problem((*path, "window"), message, key="default")
        kind = "week" if declared["column"] == "week" else "day"
        return MartWindow(
            column=declared["column"],
            default_days=default,
            max_days=most,
            kind=declared.get("kind", kind),
        )


def _accepted_values(tests: Sequence[Any]) -> tuple[str, ...]:
    """The values of the test of that name, if there is one."""
    for test in tests:
        if isinstance(test, dict) and "accepted_values" in test:
            declared = test["accepted_values"]
            return tuple(map(str, declared.get("arguments", declared).get("values") or ()))
    return ()
