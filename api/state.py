"""What the views of one app share: its pool, keys, catalogue and limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flask import Flask, current_app

from api.access.auth import Authenticator
from api.database.heavy import HeavyReads
from api.database.pool import Pool
from api.front.listen import Listener
from api.pages.forms import FormTokens
from api.reporting.deployed import DeployedCatalogue
from api.reporting.paging import PageTokens
from api.watching.metrics import Metrics

PREFIX = "/api/reporting/v1"
EXTENSION = "oversight"
EXPORTS_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one worker process. Remembering keys for 4 s ends a revoked one within 5 s."""

    pool_size: int = 8
    spare_threads: int = 4
    """Threads beyond the pool's connections, for answers that need none."""
    pool_wait_seconds: float = 2.0
    statement_timeout_ms: int = 10_000
    remember_keys_seconds: float = 4.0
    remember_catalogue_seconds: float = 2.0
    refusals_per_minute: int = 300
    """Credentials that are none, of one address."""


@dataclass(frozen=True, kw_only=True)
class State:
    """The parts of one app."""

    pool: Pool
    metrics: Metrics
    catalogue: DeployedCatalogue
    authenticator: Authenticator
    tokens: PageTokens
    forms: FormTokens
    warehouse_docs: Path
    is_https: bool
    """Whether browsers come over https, by what OVERSIGHT_API_URL says."""
    limits: Limits
    heavy_reads: HeavyReads
    listener: Listener
    """Started by the server; without it no answer is kept."""
    exports: HeavyReads = field(default_factory=lambda: HeavyReads(at_once=EXPORTS_AT_ONCE))
    """Held by each CSV or NDJSON answer until its caller has it: a slow one holds a thread."""


def state() -> State:
    """The state of the app that answers the current request."""
    return state_of(current_app)


def state_of(app: Flask) -> State:
    """The state of an app."""
    found: State = app.extensions[EXTENSION]
    return found
