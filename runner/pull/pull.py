"""Pulling: what an engine has new comes over HTTP and lands as any extract, watermark and all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Protocol

import structlog
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from runner.landing.ledger import LoadReport
from runner.landing.load import load_engine
from runner.landing.tables import TableBatch
from runner.pull.access import read_access, scheduled_pulls
from runner.pull.client import Client, Patience
from runner.pull.errors import PullError
from runner.pull.fetch import Fetched, fetch_table
from warehouse import database
from warehouse.declared import Catalogue, SourceTable
from warehouse.endpoints import Endpoint
from warehouse.settings import Settings

__all__ = ["pull", "scheduled_pulls"]

Window = tuple[date, date]
_LOOK_SECONDS = 1.0
PATIENCE = Patience()
_log = structlog.get_logger("oversight.pull")


class Run(Protocol):
    """The part of a run that a pull needs."""

    rows_affected: int | None

    def check(self) -> None:
        """Raise when the run is to end."""


def pull(
    settings: Settings,
    catalogue: Catalogue,
    engine: str,
    *,
    window: Window | None = None,
    run: Run | None = None,
    environ: Mapping[str, str] = os.environ,
    patience: Patience = PATIENCE,
    on_table: Callable[[str, Fetched], None] = lambda _name, _fetched: None,
) -> LoadReport:
    """Ask an engine for what is new since its watermarks, and land it as one batch.

    With a `window`, both days included, only the tables that can be asked for days are, the
    watermarks stay, and the batch is a backfill. `batch_id` of the report is None when the engine
    had nothing. Raises PullError, naming table and page, when anything of it can't be had or does
    not land; nothing changes then.
    """
    tables = _asked_tables(catalogue, engine, window)
    access = read_access(engine, tables[0][1], environ)
    check = run.check if run is not None else lambda: None
    watermarks = {} if window else _watermarks(settings, engine)
    started_at = datetime.now(timezone.utc)
    mark = f"pull_{started_at:%Y%m%dT%H%M%SZ}"
    notes = []
    with (
        _folder(settings, engine) as folder,
        Client(access, patience=patience, wait=lambda seconds: _wait(seconds, check)) as client,
    ):
        for table, endpoint in tables:
            parameters = _parameters(table, endpoint, watermarks.get(table.name), window)
            fetched = fetch_table(client, table, endpoint, parameters, folder=folder, mark=mark)
            on_table(table.name, fetched)
            if not fetched.rows and table.mode == "snapshot":
                notes.append(f"{table.name}: the engine gave no records, none is withdrawn")
        check()
        if any(folder.iterdir()):
            report = load_engine(
                settings,
                catalogue,
                engine,
                folder,
                again=True,
                is_backfill=window is not None,
                origin=access.base_url,
                on_table=None if window else lambda cursor, batch: _move(cursor, batch, started_at),
            )
        else:
            report = LoadReport(engine=engine, is_backfill=window is not None)
    report.notes += notes
    if run is not None:
        run.rows_affected = report.voided + sum(count.accepted for count in report.files)
    if report.error is not None:
        raise PullError(
            f"what {engine} answered does not land, batch {report.batch_id} is rejected: "
            f"{access.hide(report.error)}"
        )
    return report


def _asked_tables(
    catalogue: Catalogue, engine: str, window: Window | None
) -> list[tuple[SourceTable, Endpoint]]:
    if engine not in catalogue.engines:
        known = ", ".join(catalogue.engines)
        raise PullError(f"engine {engine} is not declared; declared are: {known}")
    tables = [
        (table, table.endpoint)
        for table in catalogue.engine_tables(engine)
        if table.endpoint and (window is None or table.endpoint.window)
    ]
    if not tables:
        lacking = "an endpoint with a window" if window else "an endpoint"
        raise PullError(f"{engine} declares no table with {lacking}, so there is nothing to ask")
    return tables


def _parameters(
    table: SourceTable, endpoint: Endpoint, through: datetime | None, window: Window | None
) -> dict[str, str]:
    if window is not None:
        assert endpoint.window is not None
        first, last = window
        return {
            endpoint.window.from_parameter: first.isoformat(),
            endpoint.window.to_parameter: last.isoformat(),
        }
    if endpoint.since is None or through is None:
        return {}
    moment = through.astimezone(timezone.utc) - timedelta(seconds=endpoint.since.overlap_seconds)
    is_day = table.column(endpoint.since.column).data_type == "date"
    return {endpoint.since.parameter: f"{moment:{'%Y-%m-%d' if is_day else '%Y-%m-%dT%H:%M:%SZ'}}"}


def _watermarks(settings: Settings, engine: str) -> dict[str, datetime]:
    connection = database.connect(
        settings, role="oversight_loader", application_name="oversight pull"
    )
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "select source_table, through from metadata.pull_watermarks where engine = %s",
                (engine,),
            )
            return dict(cursor.fetchall())
    finally:
        connection.close()


def _move(cursor: Cursor, batch: TableBatch, started_at: datetime) -> None:
    """Move the watermark to the newest record that lands, in the transaction that lands it.

    It never goes back, and a record from the future does not take it past the pull's own start.
    """
    table = batch.table
    if table.endpoint is None or table.endpoint.since is None:
        return
    cursor.execute(
        SQL(
            """
            insert into metadata.pull_watermarks as w (engine, source_table, through, batch_id)
            select %s, %s, least(max(i.{column})::timestamptz, %s), %s
            from pg_temp.incoming as i
            where i.reasons is null
            having max(i.{column}) is not null
            on conflict (engine, source_table) do update set
                through = greatest(w.through, excluded.through),
                batch_id = excluded.batch_id,
                moved_at = clock_timestamp()
            """
        ).format(column=Identifier(f"c_{table.endpoint.since.column}")),
        (table.engine, table.name, started_at, batch.batch_id),
    )


def _wait(seconds: float, check: Callable[[], None]) -> None:
    deadline = time.monotonic() + seconds
    while True:
        check()
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, _LOOK_SECONDS))


@contextmanager
def _folder(settings: Settings, engine: str) -> Iterator[Path]:
    """A folder of this pull's own below the home folder; one that a killed pull left goes."""
    home = settings.home / "pulls"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        # One at a time, or a folder that was just made would look like one that was left.
        with _lock(home, is_patient=True):
            for left in home.iterdir():
                with _lock(left) as is_ours:
                    if is_ours:
                        shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=f"{engine}-", dir=home))
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            held.enter_context(_lock(folder))
        yield folder


@contextmanager
def _lock(folder: Path, *, is_patient: bool = False) -> Iterator[bool]:
    """Hold a folder as long as its process lives; False when another does, or it is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if is_patient else fcntl.LOCK_NB))
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
