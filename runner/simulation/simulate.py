"""A reporting engine that does not exist, for the demo, the tests and the benchmarks.

`simulate` writes native extracts (partners, campaigns, events, spend, control totals) for a range
of days. The same specification gives the same bytes on every machine. Control totals are what the
engine knows when it writes the extract: exact sums of its records in their state of that moment,
whether or not the extract holds them.

`steady` writes DIR/oversight. Every other scenario writes numbered folders, each holding an
`oversight` folder, to be loaded in order; after the last one the warehouse holds the engine's final
state. What differs from steady:

- late: a share of the records of all days but the last is missing from 1 and arrives in 2.
- duplicated: a share of the records stands twice in the files of 1, and again, unchanged, in 2.
- corrected: 2 holds newer versions of a share of the records, with other amounts and counts.
- moved: 2 holds newer versions of a share of the records, on another day or at another partner.
- withdrawn: 2 withdraws a share of the records, 3 reinstates about half of those.
- drift: 2 holds new control totals only, in which the spend of some keys is off by the drift; the
  report names them.
- outage: days in a row are missing from 1 (not from its control totals) and arrive in 2.

Control totals are in 1, and again in every later folder in which the engine's totals changed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import datetime, time, timedelta
from pathlib import Path

import duckdb

from runner.simulation import records as sql
from runner.simulation.specification import (
    Drift,
    Report,
    SimulatedFile,
    Simulation,
    SimulationError,
)

__all__ = ["Drift", "Report", "SimulatedFile", "Simulation", "SimulationError", "simulate"]

ENGINE = "oversight"
COPY_OPTIONS = {
    "csv": "format csv, header, timestampformat '%Y-%m-%dT%H:%M:%SZ'",
    "jsonl": "format json, timestampformat '%Y-%m-%dT%H:%M:%SZ'",
    "parquet": "format parquet",
}
OnProgress = Callable[[int, int], None]
_FOLLOW_UPS = {"late": 1, "duplicated": 1, "outage": 1, "drift": 1, "corrected": 2, "moved": 2,
               "withdrawn": 4}  # fmt: skip


def simulate(spec: Simulation, on_progress: OnProgress | None = None) -> Report:
    """Write the extracts of a specification; a folder appears only when all is complete.

    Raises SimulationError when the folder holds extracts already or cannot be written, or when the
    rows are too few for the scenario to change anything. `on_progress` is told how many rows were
    gone through, and of how many: more than there are, since totals and follow-ups read them again.
    """
    taken = [
        child
        for child in (spec.path / ENGINE, *(spec.path / str(n) for n in (1, 2, 3)))
        if child.exists()
    ]
    if taken:
        raise SimulationError(
            f"{taken[0]} exists already: choose another folder, or remove it first"
        )
    unfinished = spec.path / ".unfinished"
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        report = _Writer(spec, unfinished, on_progress).write()
        for child in sorted(unfinished.iterdir()):
            child.rename(spec.path / child.name)
    except OSError as error:
        raise SimulationError(f"cannot write to {spec.path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return report


class _Writer:
    """Writes one simulation: holds its database connection and what was written so far."""

    def __init__(self, spec: Simulation, root: Path, on_progress: OnProgress | None) -> None:
        self.spec, self.root, self.on_progress = spec, root, on_progress
        self.rows_done = 0
        spend = round(spec.rows * spec.spend_share)
        self.totals = {"spend": spend, "events": spec.rows - spend}
        self.files: list[SimulatedFile] = []
        self.drifts: tuple[Drift, ...] = ()
        self.database = duckdb.connect(
            config={"memory_limit": "512MB", "temp_directory": str(root / ".spill")}
        )
        self.database.execute(
            "set preserve_insertion_order = true; set TimeZone = 'UTC';"
            " set enable_progress_bar = false"
        )

    def write(self) -> Report:
        """Write every folder of the scenario and report what there is."""
        scenario = self.spec.scenario
        with self.database:
            self._went_through(0)
            self._write_base()
            if scenario in ("late", "duplicated", "outage"):
                self._write_records(2, state=0, only_chosen=True)
            elif scenario == "drift":
                self._write_control_totals(2, state=0)
            elif scenario in ("corrected", "moved", "withdrawn"):
                for state in (1, 2) if scenario == "withdrawn" else (1,):
                    self._write_records(state + 1, state=state, only_chosen=True)
                    self._write_control_totals(state + 1, state=state)
        shutil.rmtree(self.root / ".spill", ignore_errors=True)
        folders = sorted({file.path.parent.parent for file in self.files})
        if scenario not in ("steady", "drift") and not any(
            file.table in self.totals and file.path.parent.parent == self.spec.path / "2"
            for file in self.files
        ):
            raise SimulationError(
                f"the scenario {scenario} changed no record: give more rows (now {self.spec.rows})"
                f" or a larger share (now {self.spec.share})"
            )
        missing = tuple(self.spec.first_day + timedelta(days=day) for day in self.spec.outage)
        return Report(
            folders=tuple(folders),
            files=tuple(self.files),
            drifts=self.drifts,
            outage_days=missing if scenario == "outage" else (),
        )

    def moment(self, folder: int) -> datetime:
        """The as-of time of a folder: that many hours after the range has ended."""
        return datetime.combine(self.spec.last_day + timedelta(days=1), time()) + timedelta(
            hours=folder
        )

    def _write_base(self) -> None:
        zoned = self.spec.format == "parquet"
        self._copy(1, "partners", "", sql.partners(self.spec, zoned=zoned))
        self._copy(1, "campaigns", "", sql.campaigns(self.spec, zoned=zoned))
        self._write_records(1, state=0, only_chosen=False)
        self._write_control_totals(1, state=0)

    def _write_records(self, folder: int, *, state: int, only_chosen: bool) -> None:
        """Spend and events of a folder: the base in one file a month, a follow-up in one file."""
        days = range(self.spec.days)
        months = [days] if only_chosen else self._months()
        for table, total in self.totals.items():
            for month in months:
                first, last = (-(-day * total // len(days)) for day in (month.start, month.stop))
                name = "_".join(
                    str(self.spec.first_day + timedelta(days=day)) for day in (month[0], month[-1])
                )
                self._copy(
                    folder,
                    table,
                    name,
                    self._select(table, first, last, folder, state, only_chosen),
                )
                self._went_through(last - first)

    def _select(
        self, table: str, first: int, last: int, folder: int, state: int, only_chosen: bool
    ) -> str:
        changed_at = self.moment(folder) - timedelta(minutes=30)
        records = sql.records(
            self.spec, table, self.totals[table], first, last, state=state, moment=changed_at
        )
        columns = sql.extract_columns(self.spec, table, zoned=self.spec.format == "parquet")
        everything = f"select {columns} from ({records})"
        if only_chosen:
            # A third state differs from the second only where a record is reinstated.
            return f"{everything} where is_chosen" + (" and is_reinstated" if state == 2 else "")
        if self.spec.scenario in ("late", "outage"):
            return f"{everything} where not is_chosen"
        if self.spec.scenario == "duplicated":
            return f"{everything} union all {everything} where is_chosen"
        return everything

    def _write_control_totals(self, folder: int, *, state: int) -> None:
        facts = [
            sql.records(self.spec, table, total, 0, total, state=state, moment=self.moment(folder))
            for table, total in self.totals.items()
        ]
        self.database.execute(
            f"create or replace temp table totals as {sql.control_totals(self.spec, *facts)}"
        )
        if self.spec.scenario == "drift" and folder == 2:
            self._drift()
        self._copy(
            folder,
            "control_totals",
            f"{self.spec.first_day}_{self.spec.last_day}",
            "from totals order by organization_id, day, partner_id",
            window={"from": str(self.spec.first_day), "to": str(self.spec.last_day)},
        )
        self._went_through(self.spec.rows)

    def _went_through(self, rows: int) -> None:
        """Base and its totals are two passes over all rows; scenarios add theirs."""
        self.rows_done += rows
        if self.on_progress:
            passes = 2 + _FOLLOW_UPS.get(self.spec.scenario, 0)
            self.on_progress(self.rows_done, passes * self.spec.rows)

    def _drift(self) -> None:
        """Put the error into the spend of some keys where it is at least two cents."""
        spec = self.spec
        rows = self.database.execute(
            f"""
            with numbered as (
                select *, row_number() over (order by organization_id, day, partner_id) as j
                from totals
            )
            select organization_id, day, partner_id, spend_amount,
                cast(round(spend_amount * {1 + spec.drift}, 2) as decimal(18, 2)) as control_amount
            from numbered
            where abs(round(spend_amount * {1 + spec.drift}, 2) - spend_amount) >= 0.02
            order by {sql.draw(spec, "drift")}, j
            limit {spec.drift_keys}
            """
        ).fetchall()
        if not rows:
            raise SimulationError(
                f"a drift of {spec.drift} is less than two cents at every key:"
                " give more rows or a larger drift"
            )
        self.drifts = tuple(sorted((Drift(*row) for row in rows), key=lambda drift: drift[:3]))
        self.database.executemany(
            "update totals set spend_amount = ?"
            " where organization_id = ? and day = ? and partner_id = ?",
            [(drift.control_amount, *drift[:3]) for drift in self.drifts],
        )

    def _months(self) -> list[range]:
        """The days of the range, counted from 0, split where a calendar month starts."""
        days = range(self.spec.days)
        starts = [
            day for day in days if day == 0 or (self.spec.first_day + timedelta(days=day)).day == 1
        ]
        return [
            range(start, stop) for start, stop in zip(starts, [*starts[1:], len(days)], strict=True)
        ]

    def _copy(
        self, folder: int, table: str, name: str, select: str, window: dict[str, str] | None = None
    ) -> None:
        """Write one file and its control file; a file without records is not written."""
        steady = self.spec.scenario == "steady"
        place = Path(ENGINE) if steady else Path(str(folder)) / ENGINE
        target = (
            self.root / place / ("_".join(filter(None, (table, name))) + f".{self.spec.format}")
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        quoted = str(target).replace("'", "''")
        copy = f"copy ({select}) to '{quoted}' ({COPY_OPTIONS[self.spec.format]})"
        (records,) = self.database.execute(copy).fetchone() or (0,)
        if records == 0:
            target.unlink(missing_ok=True)
            return
        control: dict[str, object] = {
            "as_of": f"{self.moment(folder):%Y-%m-%dT%H:%M:%SZ}",
            "records": records,
        }
        if window:
            control["window"] = window
        target.with_name(target.name + ".control.json").write_text(
            json.dumps(control) + "\n", encoding="utf-8"
        )
        file = SimulatedFile(
            path=self.spec.path / place / target.name, table=table, records=records
        )
        self.files.append(file)
