"""Landing the items of a history through real files, at once or held open in the middle."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from histories import FIRST_DAY, FIRST_EXTRACT, Item, Snapshot, Values

from runner.landing.ledger import LoadReport
from runner.landing.load import load_engine
from warehouse.declared import Catalogue
from warehouse.settings import Settings

Arrivals = list[tuple[int, Item]]
_PATIENCE_SECONDS = 600.0


def write_extracts(folder: Path, catalogue: Catalogue, arrivals: Arrivals) -> None:
    """One file per table with its versions in the order of arrival, and one per snapshot."""
    rows: dict[tuple[str, str], list[Values]] = {}
    for place, item in arrivals:
        moment = FIRST_EXTRACT + timedelta(hours=place)
        if isinstance(item, Snapshot):
            path = folder / "oversight" / f"control_totals_{place}.csv"
            _write(path, catalogue, "oversight", "control_totals", item.rows)
            window = {
                name: str(FIRST_DAY + timedelta(days=day))
                for name, day in (("from", item.first), ("to", item.last))
            }
            control = {
                "as_of": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
                "records": len(item.rows),
                "window": window,
            }
            path.with_name(f"{path.name}.control.json").write_text(json.dumps(control))
        elif item.engine == "oversight":
            stamped = (*item.values, ("updated_at", f"{moment:%Y-%m-%dT%H:%M:%SZ}"))
            rows.setdefault((item.engine, item.table), []).append(stamped)
        else:
            stamped = (*item.values, ("_fivetran_synced", f"{moment:%Y-%m-%d %H:%M:%S}.000"))
            rows.setdefault((item.engine, item.table), []).append(stamped)
    for (engine, table), found in rows.items():
        _write(folder / engine / f"{table}.csv", catalogue, engine, table, found)


def _write(
    path: Path, catalogue: Catalogue, engine: str, table: str, rows: Iterable[Values]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (declared,) = (found for found in catalogue.engine_tables(engine) if found.name == table)
    with path.open("w", encoding="utf-8", newline="") as file:
        names = [column.name for column in declared.columns]
        writer = csv.DictWriter(file, names, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(dict(row) for row in rows)


class Loading:
    """Loads of a folder, one thread per engine, each held open before it commits."""

    def __init__(self, settings: Settings, catalogue: Catalogue, folder: Path) -> None:
        self._settings, self._catalogue = settings, catalogue
        self._release = threading.Event()
        self._ready: list[threading.Event] = []
        self._threads: list[threading.Thread] = []
        self._outcomes: list[LoadReport | BaseException] = []
        for engine in sorted(child.name for child in folder.iterdir()):
            ready = threading.Event()
            thread = threading.Thread(target=self._load, args=(engine, folder / engine, ready))
            self._ready.append(ready)
            self._threads.append(thread)
            thread.start()

    def wait_until_held(self) -> None:
        """Until each load has written its rows and not committed them."""
        for ready in self._ready:
            assert ready.wait(_PATIENCE_SECONDS), "a load takes too long"

    def commit(self) -> None:
        """Let the loads end, and see that they landed everything."""
        self._release.set()
        for thread in self._threads:
            thread.join(_PATIENCE_SECONDS)
            assert not thread.is_alive(), "a load does not end"
        for outcome in self._outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            assert outcome.is_clean, outcome

    def _load(self, engine: str, folder: Path, ready: threading.Event) -> None:
        def hold(_name: str, share: float) -> None:
            if share >= 100:
                ready.set()
                self._release.wait(_PATIENCE_SECONDS)

        try:
            report: LoadReport | BaseException = load_engine(
                self._settings,
                self._catalogue,
                engine,
                folder,
                allow_void=True,
                again=True,
                progress=hold,
            )
        except BaseException as error:
            report = error
        self._outcomes.append(report)
        ready.set()
