"""An engine that answers for the days of a week, so that backfills are tested without a socket."""

from __future__ import annotations

import csv
import tempfile
import threading
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from built import BuiltWarehouse

from runner.backfill.backfill import Run, Steps
from runner.backfill.turn import Turn
from runner.landing.ledger import LoadReport
from runner.landing.load import load_engine
from warehouse.database import connect
from warehouse.declared import Catalogue
from warehouse.errors import OversightError
from warehouse.settings import Settings
from warehouse.weeks import window

ENGINE = "oversight"
_COLUMNS = (
    "organization_id", "spend_id", "occurred_at", "partner_id", "campaign_id", "spend_amount",
    "currency", "clicks", "impressions", "updated_at", "pulled",
)  # fmt: skip


class EngineError(OversightError):
    """The engine gave no answer."""


class FakeEngine:
    """Two records a week, in other bytes at each pull; `before` and `after` are called around."""

    def __init__(self) -> None:
        self.asked: list[date] = []
        self.empty: set[date] = set()
        self.broken: dict[date, int] = {}
        self.before: Callable[[date], None] = lambda _: None
        self.after: Callable[[date], None] = lambda _: None

    def pull(
        self,
        settings: Settings,
        catalogue: Catalogue,
        engine: str,
        week: tuple[date, date],
        run: Run,
    ) -> LoadReport:
        """Land a week as a backfill; nothing of an empty week, an error of a broken one."""
        monday, sunday = week
        assert (monday.weekday(), sunday) == (0, monday + timedelta(days=6))
        self.asked.append(monday)
        self.before(monday)
        run.check()
        if self.broken.get(monday, 0) > 0:
            self.broken[monday] -= 1
            raise EngineError(f"the engine gave 500 for {monday}")
        if monday in self.empty:
            return LoadReport(engine=engine, is_backfill=True)
        with tempfile.TemporaryDirectory(prefix="ov-week-") as folder:
            self._write(Path(folder) / "spend.csv", monday, sunday)
            report = load_engine(settings, catalogue, engine, Path(folder), window=week)
        self.after(monday)
        return report

    def _write(self, path: Path, *days: date) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS, restval="")
            writer.writeheader()
            for day in days:
                writer.writerow(
                    {
                        "organization_id": "acme",
                        "spend_id": f"s-{day}",
                        "occurred_at": f"{day}T12:00:00Z",
                        "partner_id": "p1",
                        "spend_amount": f"{day.day}.25",
                        "currency": "USD",
                        "updated_at": "2026-11-01T00:00:00Z",
                        "pulled": f"{len(self.asked)}-{threading.get_ident()}-{id(file)}",
                    }
                )


class FakeRun:
    """A run that is in no log, and is over when told so."""

    def __init__(self, run_id: int) -> None:
        self.run_id = run_id
        self.rows_affected: int | None = None
        self.over: OversightError | None = None

    def check(self) -> None:
        if self.over:
            raise self.over


def open_run(settings: Settings, job_name: str = "backfill") -> FakeRun:
    """A run with a row of its own, as running."""
    ((run_id,),) = execute(
        settings,
        "insert into metadata.refresh_log (job_name) values (%s) returning run_id",
        job_name,
    )
    return FakeRun(run_id)


def execute(settings: Settings, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run SQL as the administrator."""
    connection = connect(settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description is not None else []
    finally:
        connection.close()


def deploy(settings: Settings, catalogue: Catalogue) -> None:
    """Make a catalogue what is served."""
    execute(
        settings,
        "insert into metadata.catalogue (content_hash, content) values (%s, %s)",
        catalogue.content_hash,
        catalogue.to_json(),
    )


def steps(built: BuiltWarehouse, engine: FakeEngine) -> Steps:
    """Pulls from the engine, refreshes by the tests' warm dbt."""
    return Steps(pull=engine.pull, refresh=lambda _settings, _marts, _name: built.refresh())


def ledger(settings: Settings, backfill_id: int) -> list[tuple[Any, ...]]:
    """What must be the same however a backfill came to its end: all but attempts and times."""
    return execute(
        settings,
        "select week, status, rows_landed, rows_rejected, landed_checksum, mart_checksums::text, "
        "batch_id is not null, error_message from metadata.backfill_weeks "
        "where backfill_id = %s order by week",
        backfill_id,
    )


def statuses(settings: Settings, backfill_id: int) -> list[str]:
    """The weeks' statuses in their order."""
    return [row[1] for row in ledger(settings, backfill_id)]


def days_of(weeks: Iterable[date]) -> list[date]:
    """The days that the engine has records of."""
    return [day for week in weeks for day in window(week)]


def is_free(settings: Settings, engine: str) -> bool:
    """Whether no living process works on a backfill of the engine."""
    with Turn(settings, engine) as turn:
        return turn._lock(f"oversight backfill engine {engine}")
