"""After any loads and refreshes the incremental tables equal a full rebuild, row for row.

Four fixed examples by default; HYPOTHESIS_PROFILE=soak takes hundreds of random ones.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from compared import ComparedWarehouse, command
from histories import FIRST_DAY, MODELS, Step, Story, Version, stories
from hypothesis import HealthCheck, given, settings
from loads import Arrivals, Loading
from psycopg2.extensions import connection as Connection

from runner.runs.warm_dbt import DbtRun
from warehouse.database import connect

_PATIENT = settings(deadline=None, suppress_health_check=list(HealthCheck))
PROFILES = {
    "quick": settings(_PATIENT, max_examples=4, derandomize=True, database=None),
    "soak": settings(_PATIENT, max_examples=400),
}


def take(built: ComparedWarehouse, step: Step, arrivals: Arrivals) -> bool:
    """Do one step; True when the refresh really stood at its gate while the batch was committed."""
    folder = built.folder(arrivals)
    if not step.models or step.gate is None:
        Loading(built.settings, built.catalogue, folder).commit()
        if step.models:
            built.refresh_models(step.models, is_full=step.is_full)
        return False
    return load_at_gate(built, folder, step)


def load_at_gate(built: ComparedWarehouse, folder: Path, step: Step) -> bool:
    assert step.gate is not None
    gate = connect(built.settings)
    watch = connect(built.settings, autocommit=True)
    loading = None
    try:
        with gate.cursor() as cursor:
            cursor.execute(step.gate)
        if step.is_early:
            loading = Loading(built.settings, built.catalogue, folder)
            loading.wait_until_held()
        run = built.dbt.start(command(step.models, is_full=step.is_full), run_id=None)
        is_waiting = wait_for_gate(run, watch)
        loading = loading or Loading(built.settings, built.catalogue, folder)
        loading.commit()
        gate.rollback()
        result = run.wait()
        assert result is not None
        assert result.success, result.output
        return is_waiting
    finally:
        gate.close()
        watch.close()


def wait_for_gate(run: DbtRun, watch: Connection) -> bool:
    """Wait until dbt waits for a lock, or has ended without meeting one."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if run.wait(0) is not None:
            return False
        with watch.cursor() as cursor:
            cursor.execute("select count(*) from pg_locks where not granted")
            (count,) = cursor.fetchone() or (0,)
        if count:
            return True
        time.sleep(0.01)
    raise AssertionError("the refresh neither ended nor met the gate")


def play(built: ComparedWarehouse, story: Story) -> tuple[Arrivals, int]:
    """Take all steps, then load what is left; gives back what arrived, in order, and gates met."""
    built.renew()
    arrived: Arrivals = []
    waiting = [(place, story.history[place]) for place in story.order]
    met = 0
    for step in story.steps:
        batch, waiting = waiting[: step.arrivals], waiting[step.arrivals :]
        met += take(built, step, batch)
        arrived += batch
    take(built, Step(arrivals=len(waiting)), waiting)
    return arrived + waiting, met


@PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "quick")]
@given(story=stories())
def test_any_loads_and_refreshes_equal_one_load_and_a_full_refresh(
    built: ComparedWarehouse, story: Story
) -> None:
    arrived, _ = play(built, story)
    built.refresh_models()
    incremental = built.contents()
    assert built.value("select count(*) from metadata.waiting_batches") == 0
    built.refresh_models(is_full=True)
    assert incremental == built.contents(), "differs from a full refresh of the same warehouse"

    built.renew()
    take(built, Step(arrivals=len(arrived)), arrived)
    built.refresh_models(is_full=True)
    assert incremental == built.contents(), "differs from one load of everything"


def native(table: str, **values: str) -> Version:
    return Version(
        engine="oversight",
        table=table,
        values=(("organization_id", "left"), *values.items()),
    )


def snapchat(table: str, **values: str) -> Version:
    return Version(engine="snapchat", table=table, values=tuple(values.items()))


def spend(number: str, partner: str = "p1", day: int = 0, **values: str) -> Version:
    return native(
        "spend",
        spend_id=number,
        occurred_at=f"{FIRST_DAY + timedelta(days=day)}T00:00:00Z",
        partner_id=partner,
        currency="USD",
        **{"spend_amount": "1.00", **values},
    )


def event(is_withdrawn: str) -> Version:
    return native(
        "events",
        event_id="e1",
        occurred_at=f"{FIRST_DAY}T00:00:00Z",
        partner_id="p3",
        campaign_id="c1",
        event_type="revenue",
        event_count="1",
        amount="3.00",
        is_withdrawn=is_withdrawn,
    )


FIRST = (
    spend("moves to another day"),
    spend("moves to another partner", campaign_id="c2"),
    spend("is corrected", "p2"),
    event("false"),
    native("campaigns", campaign_id="c1", partner_id="p1", objective="awareness"),
    snapchat("ad_hourly_report", ad_id="x1", date="2026-12-31 10:00:00.000", spend="5000000"),
    snapchat("ad_history", id="x1", ad_squad_id="x1"),
    snapchat("ad_squad_history", id="x1", campaign_id="x1"),
    snapchat("campaign_history", id="x1", ad_account_id="a1"),
)
CHANGES = {
    "day": (spend("moves to another day", day=6),),
    "partner": (spend("moves to another partner", "p3", campaign_id="c3"),),
    "amount": (spend("is corrected", "p2", spend_amount="0.50"),),
    "withdrawn": (event("true"),),
    "parent of a parent": (snapchat("ad_squad_history", id="x1", campaign_id="x2"),),
    "parent three steps up": (snapchat("campaign_history", id="x1", ad_account_id="a2"),),
    "campaign": (native("campaigns", campaign_id="c1", partner_id="p2", objective="retention"),),
}


def test_every_kind_of_change_leaves_its_old_place_and_takes_its_new_one(
    built: ComparedWarehouse,
) -> None:
    built.renew()
    items = [*FIRST, *(item for change in CHANGES.values() for item in change), event("false")]
    arrivals: Arrivals = list(enumerate(items))
    count = len(FIRST)
    take(built, Step(arrivals=count, models=MODELS), arrivals[:count])
    seen = [built.contents()]
    for arrival in arrivals[count:]:
        take(built, Step(arrivals=1, models=MODELS), [arrival])
        seen.append(built.contents())
        assert seen[-1] != seen[-2], f"{arrival[1]} changed nothing"
    # The same again, late: every version is known.
    take(built, Step(arrivals=1, models=MODELS), arrivals[::-1])
    assert built.contents() == seen[-1]
    built.refresh_models(is_full=True)
    assert built.contents() == seen[-1]


@pytest.mark.parametrize(
    ("gate", "is_early"),
    [
        ("lock table curated.fact_spend in share mode", True),
        ("lock table reporting.daily_metrics in share mode", False),
        ("lock table metadata.applied_batches in share mode", True),
    ],
)
def test_what_commits_while_a_refresh_runs_waits_whole_for_the_next(
    built: ComparedWarehouse, gate: str, is_early: bool
) -> None:
    built.renew()
    take(built, Step(arrivals=1, models=MODELS), [(0, spend("s1")), (1, spend("s2"))])
    moved: Arrivals = [(2, spend("s1", "p2", day=5)), (3, spend("s3"))]
    # Something to do for the refresh that is stopped, so that it comes to its gate.
    take(built, Step(arrivals=1), [(4, spend("s4"))])
    assert take(built, Step(arrivals=2, models=MODELS, gate=gate, is_early=is_early), moved), (
        "the refresh never stood at its gate"
    )
    waiting = "select count(distinct model) from metadata.waiting_batches"
    assert built.value(waiting) == 2, "not both marts are known to be behind"
    built.refresh_models()
    assert built.value(waiting) == 0
    incremental = built.contents()
    assert len(incremental["fact_spend"]) == 4
    built.refresh_models(is_full=True)
    assert incremental == built.contents()


def test_keys_are_kept_until_every_mart_took_them_and_no_longer(built: ComparedWarehouse) -> None:
    built.renew()
    count = "select count(*) from metadata.touched_keys"
    take(built, Step(arrivals=1, models=MODELS), [(0, spend("s1"))])
    take(built, Step(arrivals=1, models=MODELS[:6]), [(1, spend("s2"))])
    assert built.value(count) > 0
    built.refresh_models(MODELS[6:])
    # Two that take the same keys at one time leave them to the next refresh.
    built.refresh_models()
    assert built.value(count) == 0
