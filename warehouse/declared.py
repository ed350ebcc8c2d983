"""What is declared in the dbt project, as data: what landing, refresh and API agree on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from warehouse.endpoints import Endpoint
from warehouse.errors import OversightError

FEEDS = ("partners", "campaigns", "spend", "events", "control_totals")


class CatalogueError(OversightError):
    """The declarations cannot be used; the message lists each problem with file, key and remedy."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A declared column of a raw table.

    A required column holds no NULL, an optional one may be missing from an extract. `parent` is
    `<source table>.<column>` of the same engine; the values of a `scope` column name who may see
    rows.
    """

    name: str
    data_type: str
    description: str
    formats: tuple[str, ...] = ()
    zone: str | None = None
    is_volatile: bool = False
    is_required: bool = False
    is_optional: bool = False
    parent: str | None = None
    scope: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExtractWindow:
    """Which days a snapshot extract speaks of; `pattern` has the groups `from` and `to`."""

    kind: Literal["all", "columns", "file_name", "control_file"]
    from_column: str | None = None
    to_column: str | None = None
    pattern: str | None = None


@dataclass(frozen=True, kw_only=True)
class AsOf:
    """When a snapshot extract was true; `pattern` has the group `as_of`, an ISO time or digits."""

    kind: Literal["column", "file_name", "control_file"]
    column: str | None = None
    pattern: str | None = None


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    """How one table of an engine is landed; `relation` is its name in schema staging.

    Versions that are not the newest go after `superseded_kept_seconds`, None: never.
    """

    engine: str
    name: str
    relation: str
    description: str
    files: tuple[str, ...]
    mode: Literal["append", "snapshot"]
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    organization_value: str | None = None
    organization_column: str | None = None
    version_column: str | None = None
    extracted_at: str | None = None
    void_column: str | None = None
    date_column: str | None = None
    currency_column: str | None = None
    window: ExtractWindow | None = None
    as_of: AsOf | None = None
    zone: str | None = None
    final_newline: Literal["required", "optional"] = "required"
    delimiter: str = ","
    encoding: str = "utf-8"
    max_void_share: float = 0.2
    max_rejected_share: float = 0.01
    freshness_limit_seconds: int | None = None
    endpoint: Endpoint | None = None
    superseded_kept_seconds: int | None = None
    may_retire_closed_days: bool = False

    def column(self, name: str) -> Column:
        """The declared column of that name; KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True, kw_only=True)
class Feed:
    """A staging view that facts or dimensions read; it emits the record keys of `records_from`."""

    engine: str
    name: str
    model: str
    records_from: str
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MartColumn:
    """A column of a mart; `control` names what curated.fact_control_totals says of it.

    `is_required` is the contract's `not_null`: paging compares such columns by the index alone.
    `values` are all that its test accepts, none where there is no such test.
    """

    name: str
    data_type: str
    description: str
    is_required: bool = False
    control: str | None = None
    kind: Literal["money", "count"] | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MartWindow:
    """The time window of a read: its column, its length unless the caller names one, its limit."""

    column: str
    default_days: int
    max_days: int
    kind: Literal["day", "week"] = "day"


@dataclass(frozen=True, kw_only=True)
class Mart:
    """What is served under `path`: grain, schedule, limits, and who may see which rows.

    `cadence` is a five-field cron line in UTC, None for a view that is always current. `keys` maps
    a grain column to the SQL that derives it from the touched keys of facts.
    """

    name: str
    path: str
    description: str
    grain: tuple[str, ...]
    columns: tuple[MartColumn, ...]
    cadence: str | None
    freshness_sla_seconds: int
    refresh: Literal["changed_keys", "full"]
    scope: dict[str, str]
    readers: tuple[str, ...]
    window: MartWindow | None = None
    filters: tuple[str, ...] = ()
    keys: dict[str, str] = dataclasses.field(default_factory=dict)
    parity: Literal["flag", "hold"] | None = None

    def column(self, name: str) -> MartColumn:
        """The declared column of that name; KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True, kw_only=True)
class Role:
    """What callers of one role may do besides reading the marts that name it as a reader.

    Who may operate sees errors of runs and metrics, who may administer asks for pulls and
    backfills.
    """

    name: str
    description: str
    may_operate: bool = False
    may_administer: bool = False


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Everything declared, in the order of names, so that equal declarations have equal hashes.

    `nightly` and `weekly` are cron lines in UTC of the jobs of those names, None for never.
    """

    sources: tuple[SourceTable, ...]
    feeds: tuple[Feed, ...]
    marts: tuple[Mart, ...]
    roles: tuple[Role, ...] = ()
    reporting_timezone: str = "UTC"
    reporting_currency: str = "USD"
    nightly: str | None = None
    weekly: str | None = None
    retention: dict[str, int] = dataclasses.field(default_factory=dict)
    """Seconds that rows of a metadata table are kept, by its name."""
    closed_before: str | None = None
    """A Monday; what is earlier is closed."""
    backfill_max_weeks: int = 52

    @cached_property
    def engines(self) -> tuple[str, ...]:
        """The names of the declared engines."""
        return tuple(sorted({source.engine for source in self.sources}))

    def engine_tables(self, engine: str) -> tuple[SourceTable, ...]:
        """The tables of one engine, none when it is not declared."""
        return tuple(source for source in self.sources if source.engine == engine)

    def pulls(self) -> dict[str, str]:
        """The cadence of every engine that can be asked over HTTP."""
        return {
            source.engine: source.endpoint.cadence for source in self.sources if source.endpoint
        }

    def source(self, engine: str, name: str) -> SourceTable:
        """One declared table; KeyError when there is none."""
        for source in self.sources:
            if (source.engine, source.name) == (engine, name):
                return source
        raise KeyError(f"{engine}.{name}")

    def mart(self, name: str) -> Mart:
        """One declared mart; KeyError when there is none."""
        for mart in self.marts:
            if mart.name == name:
                return mart
        raise KeyError(name)

    def to_json(self) -> str:
        """The catalogue as canonical JSON: sorted keys, no spaces."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    def role(self, name: str) -> Role | None:
        """One declared role, None when there is none."""
        return next((role for role in self.roles if role.name == name), None)

    @classmethod
    def from_json(cls, text: str | dict[str, Any]) -> Catalogue:
        """The catalogue that `to_json` wrote; a parsed jsonb value is taken as well as its text."""
        content = json.loads(text) if isinstance(text, str) else text
        return typing.cast(Catalogue, _rebuild(cls, content))

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the canonical JSON: the same for the same declarations on any machine."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _rebuild(kind: Any, value: Any) -> Any:
    """Turn parsed JSON back into the dataclasses and tuples that a type hint names."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        known = {field.name for field in dataclasses.fields(kind)}
        unknown = set(value) - known
        if unknown:
            raise CatalogueError(
                f"the stored catalogue holds {sorted(unknown)}, which this version does not know;"
                " run `oversight deploy`"
            )
        return typing.cast(Any, kind)(
            **{name: _rebuild(hints[name], content) for name, content in value.items()}
        )
    origin = typing.get_origin(kind)
    if origin is tuple:
        return tuple(_rebuild(typing.get_args(kind)[0], item) for item in value)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        kinds = [item for item in typing.get_args(kind) if item is not type(None)]
        return _rebuild(kinds[0], value)
    return value
