"""Pulling: what an engine has new comes over HTTP and lands as any extract, watermark and all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Protocol

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from runner.landing.ledger import LoadReport, Window
from runner.landing.load import load_engine
from runner.landing.tables import TableBatch
from runner.pull.access import Access, read_access, scheduled_pulls
from runner.pull.client import Client, Patience
from runner.pull.errors import PullError
from runner.pull.fetch import Fetched, fetch_table
from runner.runs.log import logged_run
from warehouse import database
from warehouse.declared import Catalogue, SourceTable
from warehouse.endpoints import Endpoint
from warehouse.settings import Settings

__all__ = ["pull", "scheduled_pulls"]

Asked = list[tuple[SourceTable, Endpoint]]
OnTable = Callable[[str, Fetched], None]
PATIENCE = Patience()
_LOOK_SECONDS = 0.5


class Run(Protocol):
    """What a pull needs of the run that it is, or is a part of."""

    rows_affected: int | None

    def check(self) -> None:
        """Raise RunCancelled when the run is over."""


def pull(
    settings: Settings,
    catalogue: Catalogue,
    engine: str,
    *,
    window: Window | None = None,
    is_whole: bool = False,
    run: Run | None = None,
    environ: Mapping[str, str] = os.environ,
    patience: Patience = PATIENCE,
    on_table: OnTable = lambda _name, _fetched: None,
) -> LoadReport:
    """Ask an engine for what is new since its watermarks, and land it as one batch.

    With `is_whole`, and where a watermark is of another address, it is asked from the start.
    With a `window`, both days included, only the tables that can be asked for days are, the
    watermarks stay, and the batch is a backfill. `batch_id` of the report is None when the engine
    had nothing. Raises PullError, naming table and page, when anything of it can't be had or does
    not land; nothing changes then. Without `run` it is a run of its own in refresh_log.
    """
    tables = _asked_tables(catalogue, engine, window)
    access = read_access(engine, tables[0][1], environ)

    def land(own: Run) -> LoadReport:
        with _folder(settings, engine) as folder:
            asking = _Pull(settings, catalogue, engine, window, is_whole, own, access, folder)
            with Client(access, patience=patience, wait=asking.wait) as client:
                asking.fetch(client, tables, on_table)
            own.check()
            return asking.land()

    if run is not None:
        return land(run)
    with logged_run(settings, f"pull {engine}") as own:
        if own.is_skipped:
            raise PullError(f"{engine} is being pulled already; see `oversight status`")
        return land(own)


def check_access(catalogue: Catalogue, engine: str) -> None:
    """Raise PullError unless what it takes to ask an engine is set here."""
    read_access(engine, _asked_tables(catalogue, engine, None)[0][1], os.environ)


@dataclass
class _Pull:
    """One pull while it is done."""

    settings: Settings
    catalogue: Catalogue
    engine: str
    window: Window | None
    is_whole: bool
    run: Run
    access: Access
    folder: Path
    started_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    notes: list[str] = field(default_factory=list)

    def wait(self, seconds: float) -> None:
        """Wait, but not much longer than until the run is over."""
        deadline = time.monotonic() + seconds
        while True:
            self.run.check()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _LOOK_SECONDS))

    def fetch(self, client: Client, tables: Asked, on_table: OnTable) -> None:
        """Ask for every table, snapshots first; what comes is in the folder."""
        moment: str | None = None
        watermarks = {}
        if self.window is None and not self.is_whole:
            watermarks = _watermarks(self.settings, self.engine, self.access.base_url)
        mark = f"pull_{self.started_at:%Y%m%dT%H%M%SZ}"
        for table, endpoint in sorted(tables, key=lambda asked: asked[0].mode, reverse=True):
            parameters = _parameters(table, endpoint, watermarks.get(table.name), self.window)
            if endpoint.until and moment:
                parameters[endpoint.until] = moment
            fetched = fetch_table(
                client, table, endpoint, parameters, folder=self.folder, mark=mark
            )
            on_table(table.name, fetched)
            moment = moment or fetched.as_of
            if not fetched.rows and table.mode == "snapshot":
                self.notes.append(f"{table.name}: the engine gave no records, none is withdrawn")

    def land(self) -> LoadReport:
        """Land what is in the folder, the watermarks with it."""
        report = LoadReport(engine=self.engine, is_backfill=self.window is not None)
        if any(self.folder.iterdir()):
            report = load_engine(
                self.settings,
                self.catalogue,
                self.engine,
                self.folder,
                again=True,
                window=self.window,
                origin=self.access.base_url,
                on_table=None if self.window else self._move,
            )
        report.notes += self.notes
        accepted = sum(count.accepted for count in report.files)
        self.run.rows_affected = accepted + report.voided
        if report.error is not None:
            raise PullError(
                f"what {self.engine} answered does not land, batch {report.batch_id} is rejected: "
                f"{self.access.hide(report.error)}"
            )
        return report

    def _move(self, cursor: Cursor, batch: TableBatch) -> None:
        """Move the watermark to the newest record that lands, in the transaction that lands it.

        It never goes back while the address stays, and a record from the future does not take it
        past the pull's start.
        """
        table = batch.table
        if table.endpoint is None or table.endpoint.since is None:
            return
        cursor.execute(
            SQL(
                """
                insert into metadata.pull_watermarks as w
                    (engine, source_table, origin, through, batch_id)
                select %s, %s, %s, least(max(i.{column})::timestamptz, %s), %s
                from pg_temp.incoming as i
                where i.reasons is null
                having max(i.{column}) is not null
                on conflict (engine, source_table) do update set
                    origin = excluded.origin,
                    through = case
                        when w.origin = excluded.origin then greatest(w.through, excluded.through)
                        else excluded.through
                    end,
                    batch_id = excluded.batch_id,
                    moved_at = clock_timestamp()
                """
            ).format(column=Identifier(f"c_{table.endpoint.since.column}")),
            (table.engine, table.name, self.access.base_url, self.started_at, batch.batch_id),
        )


def _asked_tables(catalogue: Catalogue, engine: str, window: Window | None) -> Asked:
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


def _watermarks(settings: Settings, engine: str, origin: str) -> dict[str, datetime]:
    """How far each table has been read at this address; another one may be another engine."""
    connection = database.connect(
        settings, role="oversight_loader", application_name="oversight pull"
    )
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "select source_table, through from metadata.pull_watermarks "
                "where engine = %s and origin = %s",
                (engine, origin),
            )
            return dict(cursor.fetchall())
    finally:
        connection.close()


@contextmanager
def _folder(settings: Settings, engine: str) -> Iterator[Path]:
    """A folder of this pull's own below the home folder; one that a killed pull left goes."""
    home = settings.home / "pulls"
    try:
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
    except OSError as error:
        raise PullError(
            f"can't keep what {engine} answers in {home}: {error.strerror or error}; free some "
            "space there, or make it writable, and pull again"
        ) from error


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
