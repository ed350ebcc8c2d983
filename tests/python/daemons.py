"""A daemon that tests move by hand: its clock is theirs, its database a built warehouse."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

from built import BuiltWarehouse

from runner.schedule.daemon import Daemon
from runner.schedule.leader import Leadership
from warehouse.catalogue import Catalogue


def deploy_to(built: BuiltWarehouse, catalogue: Catalogue | None = None) -> None:
    """Make a catalogue the deployed one, without having dbt parse it again."""
    catalogue = catalogue or built.catalogue
    built.rows(
        "insert into metadata.catalogue (content_hash, content) values (%s, %s)",
        (catalogue.content_hash, catalogue.to_json()),
    )
    built.rows("select pg_notify('oversight_catalogue', '')")


def log_of(built: BuiltWarehouse, columns: str = "job_name, scheduled_for, status") -> list[Any]:
    """The rows of refresh_log, oldest first."""
    return built.rows(
        f"select {columns} from metadata.refresh_log where job_name <> 'manual' order by run_id"
    )


def set_taken(built: BuiltWarehouse, slots: dict[str, datetime]) -> None:
    """Have jobs that were declared long ago and ran last at these slots."""
    for name, slot in slots.items():
        kind = name if name in ("nightly", "weekly") else "refresh"
        cadence = {
            "daily_metrics": "*/15 * * * *",
            "weekly_partner_performance": "0 * * * *",
        }.get(name) or getattr(built.catalogue, name)
        built.rows(
            "insert into metadata.jobs (job_name, kind, cadence, since) values (%s, %s, %s, %s)"
            " on conflict (job_name) do update set since = excluded.since",
            (name, kind, cadence, slot - timedelta(days=1)),
        )
        built.rows(
            "insert into metadata.refresh_log (job_name, scheduled_for, status, finished_at)"
            " values (%s, %s, 'success', now())",
            (name, slot),
        )


class ShiftedLeadership(Leadership):
    """Its clock stands still at `now`, which tests set; all else is as it is."""

    now: datetime | None = None

    def beat(self) -> datetime | None:
        """The tests' clock while it leads."""
        real = super().beat()
        return real if real is None or self.now is None else self.now


class HandDaemon(Daemon):
    """`at(moment)` ticks as of that moment; `finish` waits for what was started."""

    def __init__(self, built: BuiltWarehouse) -> None:
        super().__init__(built.settings, built.dbt)
        self.leadership: ShiftedLeadership = ShiftedLeadership(built.settings)

    def __enter__(self) -> HandDaemon:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):
            self.work.cancel("the test is over")
        self.stop()

    def at(self, moment: str) -> None:
        """One tick, as of a time in UTC."""
        self.leadership.now = datetime.fromisoformat(moment).replace(tzinfo=timezone.utc)
        self.tick()

    def finish(self, seconds: float = 60) -> None:
        """Wait until no thread has work left."""
        wait_until(self.lanes.is_idle, seconds)


def wait_until(condition: Callable[[], bool], seconds: float) -> float:
    """Wait for a condition; gives back how long it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"it did not come in {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - start
