"""What only shows when declarations are held against each other: names that must meet."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from warehouse.declared import Feed, Mart, Role, SourceTable
from warehouse.declared_sources import is_zone
from warehouse.durations import cadence_problem
from warehouse.yaml_files import Key, Problem, YamlFile

RETAINED_TABLES = ("audit_log", "refresh_log")
"""Tables of schema metadata whose old rows may go."""
_REF = re.compile(r"ref\(\s*['\"](\w+)['\"]\s*\)")


def check_together(
    project_dir: Path,
    files: Sequence[YamlFile],
    tables: Sequence[SourceTable],
    marts: Sequence[Mart],
    feeds: Sequence[Feed],
) -> Iterator[Problem]:
    """Every problem between declarations that are well-formed by themselves."""
    yield from _check_scopes(tables, marts, files)
    yield from _check_keys(project_dir, files, marts)
    yield from _check_closed_days(files, tables, feeds)
    yield from _check_seeds(files)
    yield from _check_unique([f"{table.engine}.{table.name}" for table in tables], "source table")
    yield from _check_unique([mart.name for mart in marts], "mart")
    yield from _check_unique([mart.path for mart in marts], "path of a mart")


def _meta(item: dict[str, Any]) -> dict[str, Any]:
    return (item.get("config") or {}).get("meta") or {}


def _models(
    files: Iterable[YamlFile], layer: str
) -> Iterator[tuple[YamlFile, tuple[Key, ...], dict[str, Any]]]:
    for file in files:
        if file.name.startswith(f"models/{layer}/"):
            for index, model in enumerate(file.content.get("models") or []):
                yield file, ("models", index), model


def _source_columns(
    files: Iterable[YamlFile],
) -> Iterator[tuple[YamlFile, tuple[Key, ...], str, dict[str, Any]]]:
    """Every column's `config.meta` below models/staging, with the name of its engine."""
    for file in files:
        if not file.name.startswith("models/staging/"):
            continue
        for s, source in enumerate(file.content.get("sources") or []):
            for t, table in enumerate(source.get("tables") or []):
                for c, column in enumerate(table.get("columns") or []):
                    path = ("sources", s, "tables", t, "columns", c, "config", "meta")
                    yield file, path, source["name"], _meta(column)


def check_variables(project: YamlFile) -> Iterator[Problem]:
    """The reporting zone and currency, and when the jobs of the whole warehouse run."""
    variables = project.content.get("vars") or {}
    zone, currency = variables.get("reporting_timezone"), variables.get("reporting_currency")
    if not isinstance(zone, str) or not is_zone(zone):
        message = "reporting_timezone must be an IANA zone, such as UTC or Europe/Berlin"
        yield project.problem(["vars"], message)
    if not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency):
        yield project.problem(["vars"], "reporting_currency must be an ISO code, such as USD")
    for name in ("nightly", "weekly"):
        cadence = variables.get(name)
        problem = cadence_problem(cadence) if isinstance(cadence, str) else None
        if cadence is not None and not isinstance(cadence, str):
            problem = f"{cadence!r} is no cron line; write it in quotation marks"
        if problem is not None:
            yield project.problem(["vars"], f"{name}: {problem}", key=name)
    weeks = variables.get("backfill_max_weeks", 1)
    if not isinstance(weeks, int) or isinstance(weeks, bool) or weeks < 1:
        message = "backfill_max_weeks must be a whole number of weeks, at least 1"
        yield project.problem(["vars"], message, key="backfill_max_weeks")
    yield from _check_retention(project, variables)


def _check_retention(project: YamlFile, variables: dict[str, Any]) -> Iterator[Problem]:
    """How long tables are kept, and the day before which the books are closed."""
    retention = variables.get("retention") or {}
    if not isinstance(retention, dict):
        message = "retention maps tables to durations, such as {refresh_log: 400d}"
        yield project.problem(["vars"], message, key="retention")
        return
    for name, kept in retention.items():
        if name not in RETAINED_TABLES:
            message = (
                f"there is no retention for a table of this name{_meant(name, RETAINED_TABLES)}"
            )
            yield project.problem(["vars", "retention"], message, key=name)
        elif not isinstance(kept, str) or not re.fullmatch("[1-9][0-9]*[hdw]", kept):
            yield project.problem(
                ["vars", "retention"], "must be a duration, such as 400d", key=name
            )
    closed = variables.get("closed_before")
    if closed is None:
        return
    try:
        day = date.fromisoformat(str(closed))
    except ValueError:
        message = "must be a day, such as 2026-01-05"
        yield project.problem(["vars"], message, key="closed_before")
        return
    if day.weekday() != 0:
        monday = day - timedelta(days=day.weekday())
        message = f"{day} must be a Monday, so that no week is half closed; {monday} is one"
        yield project.problem(["vars"], message, key="closed_before")
    if day > datetime.now(timezone.utc).date():
        message = f"{day} is still to come; only days that are over can be closed"
        yield project.problem(["vars"], message, key="closed_before")


def check_parents(tables: Sequence[SourceTable], files: Sequence[YamlFile]) -> Iterator[Problem]:
    """Every `parent` is the key of a table of the same engine, so that it names one record."""
    keys = {(table.engine, table.name): table.key for table in tables}
    for file, path, engine, meta in _source_columns(files):
        if "parent" in meta:
            name, _, column = meta["parent"].partition(".")
            if keys.get((engine, name)) != (column,):
                message = f"{meta['parent']!r} is not the key of a table of {engine}"
                yield file.problem(path, message, key="parent")


def check_readers(files: Sequence[YamlFile], roles: Sequence[Role]) -> Iterator[Problem]:
    """Every reader of a mart is a role, or nobody could ever read it so."""
    known = [role.name for role in roles]
    for file, path, model in _models(files, "reporting"):
        for index, name in enumerate(_meta(model)["mart"]["readers"]):
            if name not in known:
                message = f"seeds/roles.csv has no role {name!r}{_meant(name, known)}"
                at = (*path, "config", "meta", "mart", "readers", index)
                yield file.problem(at, message)


def _check_scopes(
    tables: Sequence[SourceTable], marts: Sequence[Mart], files: Sequence[YamlFile]
) -> Iterator[Problem]:
    """Scopes of marts and of source columns mirror each other: a misspelt one shows no rows."""
    known = {column.scope for table in tables for column in table.columns if column.scope}
    used = {name for mart in marts for name in mart.scope}
    known.add("organization")
    for file, path, model in _models(files, "reporting"):
        for name in _meta(model).get("mart", {}).get("scope", {}):
            if name not in known:
                message = f"no source column has the scope {name!r}{_meant(name, known)}"
                yield file.problem([*path, "config", "meta", "mart", "scope"], message, key=name)
    for file, source_path, _, meta in _source_columns(files):
        if marts and meta.get("scope", "organization") not in used:
            message = f"no mart has the scope {meta['scope']!r}{_meant(meta['scope'], used)}"
            yield file.problem(source_path, message, key="scope")


def _check_keys(
    project_dir: Path, files: Sequence[YamlFile], marts: Sequence[Mart]
) -> Iterator[Problem]:
    """A mart that follows changed keys can find each column of its grain in its facts' keys."""
    facts = {
        model["name"]: set(_meta(model)["fact"]["keys"])
        for _, _, model in _models(files, "curated")
        if "fact" in _meta(model)
    }
    declared = {mart.name: mart for mart in marts}
    for file, path, model in _models(files, "reporting"):
        mart = declared[model["name"]]
        sql = project_dir / Path(file.name).parent / f"{mart.name}.sql"
        if mart.refresh != "changed_keys" or not sql.is_file():
            continue
        wanted = set(mart.grain) - set(mart.keys) - {"organization_id"}
        for name in sorted(set(_REF.findall(sql.read_text(encoding="utf-8"))) & set(facts)):
            missing = ", ".join(sorted(wanted - facts[name]))
            if missing:
                message = (
                    f"changed_keys can't find {missing} in the keys of {name}; add it to that"
                    " fact's `keys`, derive it in the mart's `keys`, or use `refresh: full`"
                )
                yield file.problem([*path, "config", "meta", "mart"], message, key="refresh")


def _check_closed_days(
    files: Sequence[YamlFile], tables: Sequence[SourceTable], feeds: Sequence[Feed]
) -> Iterator[Problem]:
    """A fact knows its closed days by its key `day`; without it a full refresh would lose them."""
    retired = {(table.engine, table.name) for table in tables if table.may_retire_closed_days}
    for file, path, model in _models(files, "curated"):
        fact = _meta(model).get("fact")
        if fact is None or "day" in fact["keys"]:
            continue
        for feed in feeds:
            if feed.name == fact["feed"] and (feed.engine, feed.records_from) in retired:
                message = (
                    f"`day` must be among the keys, since closed days of {feed.engine}."
                    f"{feed.records_from} are retired and a full refresh would lose them"
                )
                at = (*path, "config", "meta", "fact")
                yield file.problem(at, message, key="keys")


def _check_seeds(files: Sequence[YamlFile]) -> Iterator[Problem]:
    for file in files:
        for index, seed in enumerate(file.content.get("seeds") or []):
            columns = {column["name"] for column in seed.get("columns") or []}
            for name in (seed.get("config") or {}).get("column_types") or {}:
                if name not in columns:
                    message = f"there is no column of this name{_meant(name, columns)}"
                    path = ("seeds", index, "config", "column_types")
                    yield file.problem(path, message, key=name)


def _check_unique(names: Sequence[str], what: str) -> Iterator[Problem]:
    for name, count in Counter(names).items():
        if count > 1:
            message = f"this {what} is declared {count} times"
            yield Problem(file="models", line=1, path=name, message=message)


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""
