"""A daemon that is killed in the middle of a backfill: the next leader goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest
from backfills import ledger
from click.testing import CliRunner
from compared import ComparedWarehouse
from daemons import HandDaemon, deploy_to, wait_until
from engines import ServedEngine, served, specification
from faults.test_daemon_faults import daemon_process

from runner.backfill.ledger import progress
from runner.backfill.requests import request_backfill
from runner.cli import main
from warehouse.database import admin_dsn

FIRST, LAST = date(2026, 10, 19), date(2026, 11, 9)


@pytest.fixture
def engine(
    built: ComparedWarehouse,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServedEngine]:
    """An engine on a socket, its address in the environment."""
    monkeypatch.setenv("OVERSIGHT_DATABASE_URL", admin_dsn(built.settings))
    monkeypatch.setenv("OVERSIGHT_HOME", str(tmp_path_factory.mktemp("home")))
    with served(specification(rows=300)) as found:
        for name, value in found.environ.items():
            monkeypatch.setenv(name, value)
        yield found


def fresh(built: ComparedWarehouse) -> int:
    built.renew()
    deploy_to(built)
    return request_backfill(built.settings, "oversight", FIRST, LAST).backfill_id


@pytest.mark.usefixtures("engine")
def test_the_next_leader_ends_the_backfill_of_a_killed_one_as_a_clean_run(
    built: ComparedWarehouse,
) -> None:
    backfill_id = fresh(built)
    command = ["backfill", "oversight", "--from", str(FIRST), "--to", str(LAST)]
    assert CliRunner().invoke(main, command).exit_code == 0
    clean = ledger(built.settings, backfill_id)
    assert {row[1] for row in clean} == {"done"}

    assert fresh(built) == backfill_id
    with daemon_process(built, "never") as process:
        wait_until(lambda: progress(built.settings, backfill_id).weeks_done > 0, 90)
        process.kill()
        process.wait(30)
    left = progress(built.settings, backfill_id)
    assert (left.status, left.weeks_left > 0) == ("running", True), "the fault landed"
    with HandDaemon(built) as daemon:

        def is_done() -> bool:
            daemon.tick()
            return progress(built.settings, backfill_id).is_ended

        wait_until(is_done, 90)
        daemon.finish()
    assert ledger(built.settings, backfill_id) == clean
    assert progress(built.settings, backfill_id).status == "done"
    assert built.rows("select status from metadata.job_requests where kind = 'backfill'") == [
        ("done",)
    ]
