"""A backup taken in the middle of the day goes on elsewhere as if nothing had happened."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compared import ComparedWarehouse, Contents, command
from histories import MODELS, Version

from clusters import Cluster, start_cluster, stop_cluster
from runner.runs.warm_dbt import Dbt
from runner.upkeep.backup import Backup, back_up
from runner.upkeep.restore import restore
from warehouse.database import connect


@pytest.fixture(scope="module")
def other_server() -> Iterator[Cluster]:
    """Another PostgreSQL 18: transaction ids, logins and identity of its own."""
    cluster = start_cluster("18")
    assert cluster is not None
    yield cluster
    stop_cluster(cluster)


def spend(key: str, day: int, amount: str) -> Version:
    values = {
        "organization_id": "acme", "spend_id": key, "occurred_at": f"2026-10-{day:02}T12:00:00Z",
        "partner_id": "p1", "campaign_id": "c1", "spend_amount": amount, "clicks": 1,
        "impressions": 1, "currency": "USD",
    }  # fmt: skip
    return Version(engine="oversight", table="spend", values=tuple(values.items()))


FIRST = [(1, spend("s1", 5, "10.00")), (2, spend("s2", 6, "20.00"))]
UNREFRESHED = [(3, spend("s3", 6, "1.00"))]
LATER = [(4, spend("s1", 7, "11.00")), (5, spend("s4", 14, "4.00"))]


def at_home(built: ComparedWarehouse, home: Path) -> Any:
    return dataclasses.replace(built.settings, home=home)


def test_a_restored_warehouse_goes_on_refreshing_with_nothing_missed_or_doubled(
    built: ComparedWarehouse, other_server: Cluster, tmp_path: Path
) -> None:
    built.renew()
    built.load("oversight", built.folder([*FIRST]) / "oversight")
    built.refresh_models()
    # landed, but in no fact yet when the backup is taken
    built.load("oversight", built.folder([*UNREFRESHED]) / "oversight")
    done = back_up(at_home(built, tmp_path / "home"))
    later = built.folder([*LATER]) / "oversight"
    built.load("oversight", later)
    built.refresh_models()
    expected = built.contents()

    other_server.run(f"create database {built.name}")
    there = ComparedWarehouse.__new__(ComparedWarehouse)
    there.name, there.cluster, there.catalogue = built.name, other_server, built.catalogue
    there.settings = other_server.settings_for(built.name)
    restored = restore(there.settings, done.file, may_replace=lambda _where: False)
    assert not restored.is_same_instance
    assert _transaction(there) != _transaction(built)
    report = there.load("oversight", later)
    assert report.files[0].accepted == 2
    there.dbt = Dbt(there.settings, warm=True)
    try:
        there.refresh_models()
        assert there.contents() == expected
        # what had landed before the backup is known there, file by file
        assert there.load("oversight", later).batch_id is None
        result = there.dbt_run(*command(MODELS, is_full=True))
        assert result.success, result.output
        assert _data(there.contents()) == _data(expected)
    finally:
        there.dbt.close()
    assert there.rows("select count(*) from reporting.daily_metrics where spend > 0") == [(3,)]


def _transaction(warehouse: ComparedWarehouse) -> int:
    return int(warehouse.value("select pg_current_xact_id()::text"))


def _data(contents: Contents) -> Contents:
    return {name: rows for name, rows in contents.items() if name in MODELS}


@pytest.mark.parametrize("is_full", [False, True], ids=["incremental", "full"])
def test_a_backup_is_taken_and_proved_while_a_refresh_is_under_way(
    built: ComparedWarehouse, tmp_path: Path, is_full: bool
) -> None:
    built.renew()
    built.load("oversight", built.folder([*FIRST]) / "oversight")
    taken: list[Backup | BaseException] = []

    def take() -> None:
        try:
            taken.append(back_up(at_home(built, tmp_path / "home")))
        except BaseException as error:
            taken.append(error)

    gate = connect(built.settings)
    with gate.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(hashtextextended('oversight:daily_metrics', 0))")
    run = built.dbt.start(command(MODELS, is_full=is_full), run_id=None)
    thread = threading.Thread(target=take)
    try:
        _wait_for_refresh(built)
        thread.start()
        thread.join(120)
        assert run.wait(0) is None, "the refresh did not wait at the gate"
    finally:
        gate.close()
    result = run.wait()
    thread.join(120)
    assert result is not None
    (done,) = taken
    assert isinstance(done, Backup), done
    if is_full and not result.success:
        # A swap waits 10 s for the dump's lock, and is tried again as the runner would.
        assert "lock timeout" in result.output
        result = built.dbt_run(*command(MODELS, is_full=is_full))
    assert result.success, result.output
    assert built.rows("select count(*) from reporting.daily_metrics") == [(2,)]


def _wait_for_refresh(built: ComparedWarehouse) -> None:
    for _ in range(600):
        found = built.value(
            "select count(*) from pg_locks where not granted and locktype = 'advisory'"
        )
        if found:
            return
        threading.Event().wait(0.1)
    pytest.fail("the refresh does not come to the gate")
