"""The simulated engine on a real socket, and what pulls and loads of it leave behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import requests

from runner.pull.client import Patience
from runner.simulation.engine import Clock, Engine
from runner.simulation.faults import Faults
from runner.simulation.serve import EngineServer
from runner.simulation.specification import Simulation
from warehouse.database import connect
from warehouse.settings import Settings

TOKEN = "a-secret-of-the-engine"
QUICK = Patience(first_wait_seconds=0.01, longest_wait_seconds=0.05)
NEWEST = """
    select * from (
        select distinct on (record_key) organization_id, record_key, content_hash, is_void
        from staging.oversight__{} order by record_key, record_version desc, extracted_at desc,
            batch_id desc, row_id desc
    ) as n where not is_void
"""
TABLES = ("campaigns", "control_totals", "events", "partners", "spend")


def specification(**changes: Any) -> Simulation:
    fields: dict[str, Any] = {
        "path": Path("not-written"),
        "first_day": date(2026, 10, 20),
        "last_day": date(2026, 11, 10),
        "rows": 1500,
    }
    return Simulation(**fields | changes)


class ServedEngine:
    """An engine that listens, and the variables by which a pull finds it."""

    def __init__(self, server: EngineServer) -> None:
        self.server = server
        self.engine, self.clock = server.engine, server.clock
        self.environ = {
            "OVERSIGHT_NATIVE_URL": server.url,
            "OVERSIGHT_NATIVE_TOKEN": server.token or "",
        }

    def switch(self, **faults: Any) -> None:
        """Put faults on through the engine's own address."""
        self._ask("POST", "/faults", {f"{name}".lstrip("_"): how for name, how in faults.items()})

    def done(self) -> dict[str, int]:
        """How often each fault was done since they were switched."""
        done: dict[str, int] = self._ask("GET", "/faults")["done"]
        return done

    def requests(self) -> int:
        """Requests for tables since faults were switched."""
        return int(self._ask("GET", "/faults")["requests"])

    def turn_clock(self, moment: datetime) -> None:
        """Set the engine's clock through its own address."""
        self._ask("POST", "/clock", {"now": moment.isoformat()})

    def _ask(self, method: str, path: str, content: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = requests.request(
            method, self.server.url + path, json=content, headers=headers, timeout=10
        )
        assert answer.status_code == 200, answer.text
        return answer.json()


@contextmanager
def served(spec: Simulation, **options: Any) -> Iterator[ServedEngine]:
    """The engine of a specification, its clock at the end unless `clock` is given."""
    engine = Engine(spec)
    clock = Clock(options.pop("start", engine.end()), options.pop("speed", 0.0))
    server = EngineServer(engine, clock, Faults(), token=TOKEN, **options)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield ServedEngine(server)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def query(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    connection = connect(settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description is not None else []
    finally:
        connection.close()


def newest(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """The newest version of every record of the native engine that was not withdrawn."""
    return {table: query(settings, NEWEST.format(table)) for table in TABLES}
