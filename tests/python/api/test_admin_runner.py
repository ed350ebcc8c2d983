"""What is asked over HTTP is done by a runner: pulls, and backfills that are stopped on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from administration import BACKFILLS, PULLS, Admin, admin
from api_warehouse import ApiWarehouse, served_by
from compared import ComparedWarehouse
from daemons import HandDaemon, deploy_to, wait_until
from engines import served, specification

from clusters import Cluster
from warehouse.database import admin_dsn

WEEKS = {"engine": "oversight", "from": "2026-10-21", "to": "2026-11-10"}


@pytest.fixture
def caller(
    server18: Cluster,
    built: ComparedWarehouse,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Admin]:
    """An administrator of an empty warehouse whose engine answers on a socket."""
    monkeypatch.setenv("OVERSIGHT_DATABASE_URL", admin_dsn(built.settings))
    monkeypatch.setenv("OVERSIGHT_HOME", str(tmp_path_factory.mktemp("home")))
    with served(specification(rows=300)) as engine:
        for name, value in engine.environ.items():
            monkeypatch.setenv(name, value)
        built.renew()
        deploy_to(built)
        yield admin(ApiWarehouse(settings=served_by(server18, built.settings)), "asks-a-runner")


def follow(
    daemon: HandDaemon, caller: Admin, place: str, is_it: Callable[[Any], bool], seconds: float = 90
) -> Any:
    """Let the runner go on until the API says what is waited for; gives back what it says."""
    said: Any = {}

    def ticked() -> bool:
        daemon.tick()
        said.update(caller.get(place).json)
        return is_it(said)

    wait_until(ticked, seconds)
    return said


def has_ended(said: Any) -> bool:
    return said["status"] in ("done", "failed", "cancelled")


def test_a_pull_is_done_once(caller: Admin, built: ComparedWarehouse) -> None:
    with HandDaemon(built) as daemon:
        daemon.tick()
        place = caller.post(PULLS, {"engine": "oversight"}, "one").headers["Location"]
        done = follow(daemon, caller, place, has_ended)
        assert (done["status"], done["engines"][0]["run_status"]) == ("done", "success")
        assert done["engines"][0]["rows_affected"] > 0
        again = caller.post(PULLS, {"engine": "oversight"}, "one")
        assert (again.status_code, again.json) == (202, done)
        everything = caller.post(PULLS, key="all").headers["Location"]
        done = follow(daemon, caller, everything, has_ended)
        assert [(item["engine"], item["status"]) for item in done["engines"]] == [
            ("oversight", "done")
        ]
    runs = built.rows("select status from metadata.refresh_log where job_name = 'pull oversight'")
    assert runs == [("success",)] * 2


def test_a_backfill_is_paused_resumed_done_and_another_cancelled(
    caller: Admin, built: ComparedWarehouse
) -> None:
    with HandDaemon(built) as daemon:
        daemon.tick()
        place = caller.post(BACKFILLS, WEEKS, "weeks").headers["Location"]
        follow(daemon, caller, place, lambda said: said["weeks_done"] > 0)
        assert caller.post(f"{place}/pause").status_code == 200
        daemon.finish()
        paused = follow(daemon, caller, place, lambda said: said["running_week"] is None)
        assert (paused["status"], paused["weeks"], paused["weeks_left"] > 0) == ("paused", 4, True)
        assert caller.post(f"{place}/resume").status_code == 200
        done = follow(daemon, caller, place, has_ended)
        assert (done["status"], done["percent"]) == ("done", 100.0)
        assert (done["first_week"], done["last_week"]) == ("2026-W43", "2026-W46")
        assert [week["status"] for week in done["ledger"]] == ["done"] * 4
        assert all(week["mart_checksums"] for week in done["ledger"])

        other = caller.post(BACKFILLS, WEEKS, "again").headers["Location"]
        follow(daemon, caller, other, lambda said: said["status"] == "running")
        assert caller.post(f"{other}/cancel").json["status"] == "cancelled"  # type: ignore[index]
        daemon.finish()
        cancelled = caller.get(other).json
        assert (cancelled["status"], cancelled["weeks_left"] > 0) == ("cancelled", True)
    requests = built.rows("select status from metadata.job_requests order by request_id")
    assert requests == [("done",), ("cancelled",)]
    kept = [row for row in caller.trail() if row[0] != "get_backfill"]
    assert kept == [
        ("request_backfill", 202, "accepted"), ("pause_backfill", 200, "ok"),
        ("resume_backfill", 200, "ok"), ("request_backfill", 202, "accepted"),
        ("cancel_backfill", 200, "ok"),
    ]  # fmt: skip
