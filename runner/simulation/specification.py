"""What can be simulated and what was: the specification and the report of a simulation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple

from warehouse.errors import OversightError

SCENARIOS = ("steady", "late", "duplicated", "corrected", "moved", "withdrawn", "drift", "outage")
FORMATS = ("csv", "jsonl", "parquet")
MAX_ROWS = 2_000_000_000
_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,40}")


class SimulationError(OversightError):
    """A specification that cannot be simulated, or a folder that cannot be written."""


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What to simulate; `rows` counts the records of spend and events together."""

    path: Path
    first_day: date
    last_day: date
    rows: int = 10_000
    seed: int = 1
    scenario: str = "steady"
    format: Literal["csv", "jsonl", "parquet"] = "csv"
    organizations: int = 2
    organization_prefix: str = "organization"
    partners: int = 8
    campaigns_per_partner: int = 3
    spend_share: float = 0.5
    share: float = 0.05
    drift: Decimal = Decimal("0.002")
    drift_keys: int = 3
    currency: str = "USD"

    def __post_init__(self) -> None:
        """Refuse what has no meaning, naming the field."""
        days = self.days
        checks = (
            (
                self.scenario in SCENARIOS,
                f"scenario is {self.scenario}: choose one of {', '.join(SCENARIOS)}",
            ),
            (
                self.format in FORMATS,
                f"format is {self.format}: choose one of {', '.join(FORMATS)}",
            ),
            (days >= 1, f"the range ends ({self.last_day}) before it starts ({self.first_day})"),
            (0 <= self.rows <= MAX_ROWS, f"rows is {self.rows}: give 0 to {MAX_ROWS}"),
            (
                1 <= self.organizations <= 1000,
                f"organizations is {self.organizations}: give 1 to 1000",
            ),
            (1 <= self.partners <= 10_000, f"partners is {self.partners}: give 1 to 10000"),
            (1 <= self.campaigns_per_partner <= 1000, "campaigns per partner: give 1 to 1000"),
            (0 <= self.spend_share <= 1, f"spend_share is {self.spend_share}: give 0 to 1"),
            (0 < self.share <= 1, f"share is {self.share}: give more than 0 and at most 1"),
            (
                self.drift != 0 and self.drift > -1,
                f"drift is {self.drift}: give a share other than 0, above -1",
            ),
            (self.drift_keys >= 1, f"drift_keys is {self.drift_keys}: give 1 or more"),
            (
                _PREFIX.fullmatch(self.organization_prefix) is not None,
                f"organization prefix is {self.organization_prefix!r}: give lower-case letters,"
                " digits and underscores, a letter first",
            ),
            (self.currency.isalpha(), f"currency is {self.currency!r}: give letters only"),
            (
                self.scenario not in ("late", "outage") or days >= 2,
                f"the scenario {self.scenario} needs two days or more",
            ),
            (
                self.scenario != "moved" or days >= 2 or self.partners >= 2,
                "the scenario moved needs two days or two partners",
            ),
        )
        problems = [message for holds, message in checks if not holds]
        if problems:
            raise SimulationError("cannot simulate: " + "; ".join(problems))

    @property
    def days(self) -> int:
        """Days of the range, both ends included."""
        return (self.last_day - self.first_day).days + 1

    @property
    def outage(self) -> range:
        """The days that an outage loses, counted from 0: a tenth of the range, never its ends."""
        length = max(1, self.days // 10)
        first = 1 if self.days > 2 else 0
        start = first + self.seed * 7919 % max(self.days - length - 1, 1)
        return range(start, start + length)


@dataclass(frozen=True, kw_only=True)
class SimulatedFile:
    """A file that was written, with its number of records."""

    path: Path
    table: str
    records: int


class Drift(NamedTuple):
    """A key at which the drifted control totals differ from the records."""

    organization_id: str
    day: date
    partner_id: str
    spend_amount: Decimal
    control_amount: Decimal


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written: folders in the order to load them, files, and where the fault is."""

    folders: tuple[Path, ...]
    files: tuple[SimulatedFile, ...]
    drifts: tuple[Drift, ...] = ()
    outage_days: tuple[date, ...] = ()

    def records(self, table: str, folder: int | None = None) -> int:
        """Records of a table in one folder (counted from 0), or in all."""
        return sum(
            file.records
            for file in self.files
            if file.table == table and (folder is None or self.folders[folder] in file.path.parents)
        )
