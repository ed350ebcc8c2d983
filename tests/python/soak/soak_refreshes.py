"""Ten simulated days of the daemon: a refresh each ten minutes, with its nights and its weekend.

Run by `make soak` (SOAK_REFRESHES=100 for a look). Each step lands a few corrected records and lets
the daemon's clock go on by ten minutes. At the end no memory, connection or file has leaked, every
slot has its one row, and the marts equal a full rebuild.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest
from compared import ComparedWarehouse
from daemons import HandDaemon, deploy_to, log_of
from simulated import specification

from runner.schedule.jobs import wanted_jobs
from runner.schedule.slots import slots_between
from runner.simulation.simulate import simulate

REFRESHES = int(os.environ.get("SOAK_REFRESHES", "1440"))
STEP = timedelta(minutes=10)
START = datetime(2026, 12, 24, tzinfo=timezone.utc)
WARM_UP = min(150, REFRESHES // 2)
DAILY, WEEKLY = "daily_metrics", "weekly_partner_performance"


@dataclass(frozen=True)
class Usage:
    """What the process tree and the database hold: bytes, connections, open files, files."""

    memory: int
    connections: int
    descriptors: int
    files: int

    def __str__(self) -> str:
        return (
            f"{self.memory / 1e6:.0f} MB (PSS), {self.connections} connections, "
            f"{self.descriptors} open files, {self.files} files of dbt"
        )


def usage(built: ComparedWarehouse) -> Usage:
    own = psutil.Process()
    tree = [own, *own.children(recursive=True)]
    ((connections,),) = built.rows(
        "select count(*) from pg_stat_activity where datname = current_database()"
    )
    return Usage(
        memory=sum(process.memory_full_info().pss for process in tree),
        connections=connections,
        descriptors=sum(process.num_fds() for process in tree),
        files=sum(1 for _ in built.dbt._folder.rglob("*")),
    )


@pytest.fixture
def corrections(built: ComparedWarehouse, tmp_path: Path) -> Iterator[Path]:
    """A warehouse with a first extract, and folders with ever newer versions of its records."""
    built.renew()
    marts = tuple(
        dataclasses.replace(mart, cadence="*/10 * * * *") if mart.name == DAILY else mart
        for mart in built.catalogue.marts
    )
    catalogue = dataclasses.replace(built.catalogue, marts=marts)
    deploy_to(built, catalogue)
    for job in wanted_jobs(catalogue, {}):
        built.rows(
            "insert into metadata.jobs (job_name, kind, cadence, since) values (%s, %s, %s, %s)",
            (*job, START),
        )
    first = tmp_path / "first"
    report = simulate(specification(first, rows=2000))
    # The corrections below know no control totals, so parity would fail every night, and rightly.
    for path in (first / "oversight").glob("control_totals*"):
        path.unlink()
    assert built.load("oversight", first / "oversight").is_clean
    (spend, *_) = [file.path for file in report.files if file.table == "spend"]
    with spend.open(encoding="utf-8", newline="") as text:
        records = list(csv.DictReader(text))

    def folders() -> Iterator[Path]:
        step = 0
        while True:
            step += 1
            folder = tmp_path / str(step)
            folder.mkdir()
            with (folder / f"spend_{step}.csv").open("w", encoding="utf-8", newline="") as text:
                writer = csv.DictWriter(text, records[0])
                writer.writeheader()
                for number in range(5):
                    record = dict(records[(5 * step + number) % len(records)])
                    record["spend_amount"] = f"{step % 97}.{number}0"
                    newer = START + step * STEP
                    record["updated_at"] = f"{newer:%Y-%m-%dT%H:%M:%SZ}"
                    writer.writerow(record)
            yield folder

    return folders()


def test_refreshes_over_ten_days_leak_nothing_and_miss_nothing(
    built: ComparedWarehouse, corrections: Iterator[Path]
) -> None:
    started = time.monotonic()
    with HandDaemon(built) as daemon:
        before: Usage | None = None
        for step in range(1, REFRESHES + 1):
            assert built.load("oversight", next(corrections)).status == "landed"
            daemon.at((START + step * STEP).replace(tzinfo=None).isoformat())
            daemon.finish(600)
            if step == WARM_UP:
                before = usage(built)
        after = usage(built)
        jobs = {job.name: job.cadence for job in daemon.jobs}
    minutes = (time.monotonic() - started) / 60
    end = START + REFRESHES * STEP
    rows = log_of(built)
    ends: Counter[Any] = Counter((job, status) for job, _, status in rows)
    sys.stdout.write(
        f"\n{REFRESHES} refreshes in {minutes:.1f} minutes\n  after {WARM_UP}: {before}\n"
        f"  at the end: {after}\n  {dict(ends)}\n"
    )
    assert before is not None
    for job, cadence in jobs.items():
        slots = [slot for name, slot, _ in rows if name == job]
        assert slots == slots_between(cadence, START, end), job
    assert {status for _, _, status in rows} == {"success"}
    assert after.memory < before.memory * 1.15 + 20e6
    assert after.connections <= before.connections
    assert after.descriptors <= before.descriptors
    assert after.files <= before.files
    # The weekly mart is as far as the last full hour.
    built.refresh()
    kept = built.contents()
    built.refresh("--full-refresh")
    rebuilt = built.contents()
    assert {name: rows for name, rows in kept.items() if name != "verdicts"} == {
        name: rows for name, rows in rebuilt.items() if name != "verdicts"
    }
