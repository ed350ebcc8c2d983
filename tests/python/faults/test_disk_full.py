"""The server's disk fills up among refreshes: old rows stay served, the log stays true."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from compared import ComparedWarehouse
from daemons import wait_until
from simulated import specification

from clusters import Cluster, start_cluster, stop_cluster
from runner.runs.refresh import RefreshError, refresh
from runner.simulation.simulate import simulate
from warehouse import server
from warehouse.errors import OversightError

MEGABYTES = 700


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of its own in memory, which nothing else can fill or suffer from."""
    folder = Path(tempfile.mkdtemp(prefix="ov-full-", dir="/tmp"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m,mode=0755", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip("no disk can be mounted here (it needs root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def full(small_disk: Path) -> Iterator[ComparedWarehouse]:
    """A built warehouse on that disk."""
    cluster = start_cluster("18", small_disk)
    assert cluster is not None
    try:
        made = ComparedWarehouse(cluster, "crammed")
        made.renew()
        try:
            yield made
        finally:
            made.close()
    finally:
        stop_cluster(cluster)


def test_a_full_disk_fails_the_run_keeps_the_old_rows_and_is_over_when_there_is_room(
    full: ComparedWarehouse, small_disk: Path, tmp_path: Path
) -> None:
    report = simulate(specification(tmp_path, rows=4000, scenario="corrected"))
    assert full.load("oversight", report.folders[0] / "oversight").is_clean
    assert refresh(full.settings, dbt=full.dbt).status == "success"
    before = full.contents()
    assert full.load("oversight", report.folders[1] / "oversight").is_clean
    # From here on the smallest write meets a full disk, the write-ahead log included.
    ballast = small_disk / "ballast"
    fill(ballast)
    assert shutil.disk_usage(small_disk).free < 100_000, "the fault did not land"
    for _ in range(3):
        with pytest.raises((RefreshError, OversightError, psycopg2.Error)):
            refresh(full.settings, ["daily_metrics"], dbt=full.dbt, full=True)
    ballast.unlink()
    server.start(full.cluster.settings, programs=full.cluster.programs)
    wait_until(lambda: is_up(full.cluster), 30)
    assert full.contents() == before, "old rows are served as they were"
    assert refresh(full.settings, dbt=full.dbt).status == "success"
    after = full.contents()
    assert after != before
    full.refresh("--full-refresh")
    rebuilt = full.contents()
    assert {name: after[name] for name in after if name != "verdicts"} == {
        name: rebuilt[name] for name in rebuilt if name != "verdicts"
    }
    ends = full.rows(
        "select status, error_message from metadata.refresh_log where job_name like 'refresh%%'"
        " order by run_id"
    )
    assert "running" not in {status for status, _ in ends}
    failed = [message for status, message in ends if status == "failed"]
    assert any("No space left on device" in message for message in failed), ends


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while True:
                    file.write(os.urandom(size))
            except OSError:
                continue


def is_up(cluster: Cluster) -> bool:
    try:
        cluster.run("select 1")
    except (psycopg2.Error, OversightError):
        return False
    return True
