"""How an engine is asked over HTTP, as declared: what the catalogue carries and a pull follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in an answer a value stands: a header, or a path of keys in a JSON body."""

    kind: Literal["header", "body"]
    name: str


@dataclass(frozen=True, kw_only=True)
class Paging:
    """How the pages of an answer are asked for; `next` is where a cursor's next value stands.

    Pages that are numbered end with the first one without rows: a short page may be the engine's
    own limit.
    """

    kind: Literal["cursor", "page"]
    parameter: str
    next: Place | None = None
    first: int = 1
    size_parameter: str | None = None
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Since:
    """The watermark: `column` of the newest record that landed, less the overlap, is asked for."""

    parameter: str
    column: str
    overlap_seconds: int


@dataclass(frozen=True, kw_only=True)
class AskedWindow:
    """Names of the parameters that bound the days asked for; both ends are included."""

    from_parameter: str
    to_parameter: str


@dataclass(frozen=True, kw_only=True)
class AnsweredWindow:
    """Where an answer says as of when it is true and which days it speaks of."""

    as_of: Place
    from_day: Place | None = None
    to_day: Place | None = None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """How one source table is asked for; variables are names, their values are read for a pull.

    `scheme` stands before the secret in its header, such as Bearer. `until` is the parameter that
    takes the as-of time of the engine's snapshots, so that one pull is of one moment.
    """

    url_variable: str
    cadence: str
    path: str
    format: Literal["json", "jsonl", "csv"] = "json"
    rows: str | None = None
    header: str | None = None
    scheme: str | None = None
    secret_variable: str | None = None
    requests_per_second: float = 10.0
    timeout_seconds: int = 60
    max_pages: int = 10_000
    max_bytes: int = 64 << 20
    paging: Paging | None = None
    since: Since | None = None
    until: str | None = None
    window: AskedWindow | None = None
    answered: AnsweredWindow | None = None
