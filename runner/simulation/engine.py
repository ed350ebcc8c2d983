"""What the simulated reporting engine shows at a moment of its own clock.

Its records are those that `simulate` writes for the same specification. A record is shown from its
version time on; one of a later folder not before that folder is written. So a day's records come
hour by hour, and corrections, withdrawals and late records come after the range has ended.
"""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb

from runner.simulation.simulate import simulate
from runner.simulation.specification import Simulation

TABLES = {
    "partners": "partner_id",
    "campaigns": "campaign_id",
    "events": "event_id",
    "spend": "spend_id",
    "control_totals": "day, partner_id",
}
_ISO = "'%Y-%m-%dT%H:%M:%SZ'"


class Clock:
    """The engine's time: it goes on by `speed` seconds a second, and stands still at 0."""

    def __init__(self, start: datetime, speed: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._start, self._speed, self._set_at = start, speed, time.monotonic()

    def now(self) -> datetime:
        """The moment, to the second."""
        with self._lock:
            gone = (time.monotonic() - self._set_at) * self._speed
            return (self._start + timedelta(seconds=gone)).replace(microsecond=0)

    def turn(self, moment: datetime) -> None:
        """Set it; it goes on from there."""
        with self._lock:
            self._start, self._set_at = moment, time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request asks for, as of a moment: changes since, days, and which rows of them."""

    moment: datetime
    since: datetime | None = None
    first_day: date | None = None
    last_day: date | None = None
    offset: int = 0
    limit: int = 1000


class Engine:
    """The records of one specification, in memory; threads may ask at once."""

    def __init__(self, spec: Simulation) -> None:
        self.spec = spec
        self._database = duckdb.connect(config={"memory_limit": "1GB"})
        self._database.execute("set TimeZone = 'UTC'")
        with tempfile.TemporaryDirectory(prefix="oversight-engine-") as folder:
            report = simulate(replace(spec, path=Path(folder), format="parquet"))
            for table in TABLES:
                parts = [
                    f"select *, {number} as folder from read_parquet('{file.path}')"
                    for number, place in enumerate(report.folders, start=1)
                    for file in report.files
                    if file.table == table and place in file.path.parents
                ]
                if parts:
                    self._make(table, " union all by name ".join(parts))

    def start(self) -> datetime:
        """The first moment of its first day."""
        return datetime.combine(self.spec.first_day, datetime.min.time(), timezone.utc)

    def end(self) -> datetime:
        """The moment from which on it shows everything."""
        return self.moment(3)

    def columns(self, table: str) -> list[str]:
        """The columns of a table."""
        rows = self._database.cursor().execute(f"describe {table}").fetchall()
        return [row[0] for row in rows if row[0] not in ("folder", "shown_at")]

    def rows(self, table: str, asked: Asked) -> tuple[list[dict[str, Any]], bool]:
        """The newest versions that are shown, in the order of their change, and whether more are.

        Amounts are text, so that JSON keeps their digits.
        """
        select = self._totals(asked) if table == "control_totals" else self._newest(table, asked)
        cursor = self._database.cursor().execute(
            f"{select} limit {asked.limit + 1} offset {asked.offset}"
        )
        names = [column[0] for column in cursor.description or ()]
        found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return found[: asked.limit], len(found) > asked.limit

    def window(self, asked: Asked) -> tuple[date, date]:
        """The days that its control totals speak of: those asked for that have come."""
        last = min(self.spec.last_day, asked.moment.date())
        first = max(asked.first_day or self.spec.first_day, self.spec.first_day)
        return first, max(first, min(asked.last_day or last, last))

    def _make(self, table: str, select: str) -> None:
        if table == "control_totals":
            self._database.execute(f"create table {table} as {select}")
            return
        moments = " ".join(
            f"when {number} then {_literal(self.moment(number))}" for number in (2, 3)
        )
        self._database.execute(
            f"""
            create table {table} as
            select *, greatest(updated_at, case folder {moments} else updated_at end) as shown_at
            from ({select})
            order by updated_at, organization_id, {TABLES[table]}
            """
        )

    def _newest(self, table: str, asked: Asked) -> str:
        conditions = [f"shown_at <= {_literal(asked.moment)}"]
        after = []
        if asked.since is not None:
            after.append(f"updated_at >= {_literal(asked.since)}")
        if "occurred_at" in self.columns(table):
            for sign, day in ((">=", asked.first_day), ("<=", asked.last_day)):
                if day is not None:
                    after.append(f"cast(occurred_at as date) {sign} date '{day}'")
        key = f"organization_id, {TABLES[table]}"
        return f"""
            select {self._shown(table)}
            from (
                select * from {table} where {" and ".join(conditions)}
                qualify row_number() over (partition by {key} order by updated_at desc) = 1
            )
            where {" and ".join(after) or "true"}
            order by updated_at, {key}
        """

    def _shown(self, table: str) -> str:
        """The columns as JSON has them: times as ISO text, decimals as text."""
        kinds = self._database.cursor().execute(f"describe {table}").fetchall()
        shown = []
        for name, kind in ((row[0], row[1]) for row in kinds):
            if name in ("folder", "shown_at"):
                continue
            if kind.startswith("TIMESTAMP"):
                shown.append(f"strftime({name}, {_ISO}) as {name}")
            elif kind.startswith(("DECIMAL", "DATE")):
                shown.append(f"cast({name} as varchar) as {name}")
            else:
                shown.append(name)
        return ", ".join(f"{text} as {text}" if " " not in text else text for text in shown)

    def _totals(self, asked: Asked) -> str:
        """What it counts itself: its records in their state of that moment, shown or not."""
        first, last = self.window(asked)
        is_drifted = self.spec.scenario == "drift" and asked.moment >= self.moment(2)
        source = "select * from control_totals where folder = 2"
        if not is_drifted:
            source = f"{self._sums('spend', asked)} union all {self._sums('events', asked)}"
        return f"""
            select organization_id, cast(day as varchar) as day, partner_id,
                cast(sum(spend_amount) as varchar) as spend_amount,
                cast(sum(revenue_amount) as varchar) as revenue_amount,
                cast(sum(events) as bigint) as events,
                cast(sum(impressions) as bigint) as impressions,
                cast(sum(clicks) as bigint) as clicks
            from (select * from ({source}) where day between date '{first}' and date '{last}')
            group by organization_id, day, partner_id
            order by organization_id, day, partner_id
        """

    def _sums(self, table: str, asked: Asked) -> str:
        figures = {
            "spend": "spend_amount, cast(0 as decimal(18, 2)) as revenue_amount, 0 as events,"
            " impressions, clicks",
            "events": "cast(0 as decimal(18, 2)), case when event_type = 'revenue' then amount"
            " else 0 end, event_count, 0, 0",
        }[table]
        return f"""
            select organization_id, cast(occurred_at as date) as day, partner_id, {figures}
            from (
                select * from {table} where updated_at <= {_literal(asked.moment)}
                qualify row_number() over (
                    partition by organization_id, {TABLES[table]} order by updated_at desc
                ) = 1
            )
            where not is_withdrawn
        """

    def moment(self, folder: int) -> datetime:
        """When a folder of the scenario is written."""
        end = datetime.combine(self.spec.last_day, datetime.min.time(), timezone.utc)
        return end + timedelta(days=1, hours=folder)


def _literal(moment: datetime) -> str:
    return f"timestamptz '{moment.astimezone(timezone.utc).isoformat()}'"
