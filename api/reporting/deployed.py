"""The deployed catalogue as the API serves it, compared with the database every few seconds."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import structlog
from psycopg2.sql import SQL, Literal

from api.database.pool import Pool
from api.database.prepared import Statement
from api.problems import not_found, unavailable
from api.reporting.parameters import MartParameters
from warehouse.catalogue import Catalogue, CatalogueError, Mart, Role

_NEWEST = SQL("""
set transaction read only;
set local role oversight_api;
set local statement_timeout = '5s';
select c.content_hash, case when c.content_hash is distinct from {known} then c.content::text end
from metadata.catalogue as c order by c.catalogue_id desc limit 1
""")

_LONGEST_BEHIND_SECONDS = 10.0

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class ServedMart:
    """A mart with what its endpoint needs of the whole catalogue."""

    mart: Mart
    parameters: MartParameters
    reporting_timezone: str
    fresh_as: tuple[str, ...]
    """The marts that make it fresh: itself, or for a live view all that are refreshed."""
    statements: dict[Any, Statement] = field(default_factory=dict, compare=False, repr=False)
    """The statements that its reads have needed so far, by their shape."""

    @property
    def organization_column(self) -> str:
        """The column that is part of every key and shown to nobody."""
        return self.parameters.organization_column


@dataclass(frozen=True)
class Served:
    """Everything that is served; `content_hash` tells one deployment from another."""

    catalogue: Catalogue
    content_hash: str
    marts: dict[str, ServedMart]
    roles: dict[str, Role]

    @classmethod
    def of(cls, catalogue: Catalogue, content_hash: str) -> Served:
        """The endpoints of a catalogue, by their path below /api/reporting/v1/."""
        refreshed = tuple(mart.name for mart in catalogue.marts if mart.cadence is not None)
        marts = {
            mart.path: ServedMart(
                mart=mart,
                parameters=MartParameters(mart),
                reporting_timezone=catalogue.reporting_timezone,
                fresh_as=refreshed if mart.cadence is None else (mart.name,),
            )
            for mart in catalogue.marts
        }
        roles = {role.name: role for role in catalogue.roles}
        return cls(catalogue=catalogue, content_hash=content_hash, marts=marts, roles=roles)

    def mart(self, path: str) -> ServedMart:
        """The mart of a path; a problem (404) when there is none."""
        try:
            return self.marts[path]
        except KeyError:
            raise not_found() from None


class DeployedCatalogue:
    """The newest row of metadata.catalogue, at most `remember_seconds` behind."""

    def __init__(self, pool: Pool, *, remember_seconds: float) -> None:
        self._pool = pool
        self._remember_seconds = remember_seconds
        self._lock = threading.Lock()
        self._served: Served | None = None
        self._compared_at = float("-inf")

    @property
    def known(self) -> Served | None:
        """What was current when last compared; None before the first time."""
        return self._served

    @property
    def known_hash(self) -> str | None:
        """Which deployment was current when last compared; None before the first time."""
        served = self._served
        return served.content_hash if served else None

    def forget(self) -> None:
        """Compare at the next use, since another was deployed."""
        self._compared_at = float("-inf")

    def current(self) -> Served:
        """What is deployed; a problem (503) when nothing is, or the database cannot say."""
        served = self._served
        if served is not None:
            behind = time.monotonic() - self._compared_at
            if behind < self._remember_seconds:
                return served
            if behind < _LONGEST_BEHIND_SECONDS and self._lock.locked():
                return served  # Another thread compares just now; none need wait for it.
        with self._lock:
            now = time.monotonic()
            if self._served is None or now - self._compared_at >= self._remember_seconds:
                self._served = self._newest(self._served)
                self._compared_at = now
            return self._served

    def _newest(self, served: Served | None) -> Served:
        known = served.content_hash if served else None
        row = self._pool.read(_NEWEST.format(known=Literal(known)))
        if row is None:
            raise unavailable(
                "nothing-deployed", "no catalogue is deployed yet", retry_after_seconds=5
            )
        content_hash, content = row
        if served is not None and content is None:
            return served
        try:
            return Served.of(Catalogue.from_json(content), content_hash)
        except CatalogueError as error:
            log.error("catalogue of another version", content_hash=content_hash, error=str(error))
            if served is not None:
                return served
            raise unavailable(
                "unreadable-catalogue",
                "the deployed catalogue is of another version of Oversight",
                retry_after_seconds=60,
            ) from error
