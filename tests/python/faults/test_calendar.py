"""Clock changes, a clock that is set back, weeks at the edges of years: every slot once, every
record in its week, whatever zone the process and the database live in."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from compared import ComparedWarehouse
from daemons import HandDaemon, deploy_to, log_of, set_taken
from simulated import final, specification

from runner.schedule.slots import slots_between
from runner.simulation.simulate import Report, simulate
from warehouse.database import connect
from warehouse.settings import Settings

DAILY = "daily_metrics"
QUARTER = timedelta(minutes=15)
CHANGES = {
    "Europe/Berlin": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "America/New_York": ("2026-03-08T07:00", "2026-11-01T06:00"),
    "Australia/Lord_Howe": ("2026-04-04T15:00", "2026-10-03T15:30"),  # by half an hour
}
"""Both changes of 2026, in UTC."""
YEARS_EDGES = ((date(2020, 12, 24), date(2021, 1, 8)), (date(2026, 12, 24), date(2027, 1, 8)))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def iso(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat()


@pytest.fixture(params=CHANGES)
def zone(
    request: pytest.FixtureRequest, built: ComparedWarehouse, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A zone in which this process and every session of the fresh warehouse live."""
    built.renew()
    built.rows(f"alter database {built.name} set timezone = '{request.param}'")
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    try:
        assert built.rows("show timezone") == [(request.param,)]
        yield request.param
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.fixture
def daemon(built: ComparedWarehouse, monkeypatch: pytest.MonkeyPatch) -> Iterator[HandDaemon]:
    """One that has a single job, whose runs do nothing but leave their rows."""
    monkeypatch.setattr("runner.schedule.work.run_dbt", lambda *_, **__: None)
    catalogue = dataclasses.replace(
        built.catalogue, marts=(built.catalogue.mart(DAILY),), nightly=None, weekly=None
    )
    deploy_to(built, catalogue)
    with HandDaemon(built) as made:
        yield made


def hours_of_local_clock(change: datetime) -> float:
    """By how much the clock on the wall jumps."""
    before, after = ((change + step).timestamp() for step in (-QUARTER, QUARTER))
    return (time.localtime(after).tm_gmtoff - time.localtime(before).tm_gmtoff) / 3600


@pytest.mark.parametrize("number", [0, 1], ids=["first change", "second change"])
def test_every_slot_around_a_clock_change_is_run_once(
    zone: str, number: int, built: ComparedWarehouse, daemon: HandDaemon
) -> None:
    change = at(CHANGES[zone][number])
    jump = hours_of_local_clock(change)
    assert abs(jump) == (0.5 if zone == "Australia/Lord_Howe" else 1), "no clock change here"
    first = change - timedelta(hours=1)
    set_taken(built, {DAILY: first - QUARTER})
    slots = [first + step * QUARTER for step in range(10)]
    for slot in slots:
        for seconds in (1, 40):
            daemon.at(iso(slot + timedelta(seconds=seconds)))
            daemon.finish()
    assert log_of(built)[1:] == [(DAILY, slot, "success") for slot in slots]


def test_a_clock_that_is_set_back_one_hour_runs_nothing_twice_and_loses_nothing(
    built: ComparedWarehouse, request: pytest.FixtureRequest
) -> None:
    built.renew()
    daemon: HandDaemon = request.getfixturevalue("daemon")
    set_taken(built, {DAILY: at("2026-06-01T11:45")})
    for moment in ("12:00:05", "11:00:10", "11:15:00", "11:45:30", "12:00:00", "12:14:59"):
        daemon.at(f"2026-06-01T{moment}")
        daemon.finish()
    assert log_of(built)[1:] == [(DAILY, at("2026-06-01T12:00"), "success")]
    daemon.at("2026-06-01T12:15:00")
    daemon.finish()
    assert log_of(built)[2:] == [(DAILY, at("2026-06-01T12:15"), "success")]


@pytest.mark.parametrize("zone_name", CHANGES)
@pytest.mark.parametrize(
    "cadence", ["*/15 * * * *", "30 2 * * *", "0 0 * * mon", "5-55/25 1,23 28-31 mar-dec *"]
)
def test_the_database_counts_the_same_slots_as_the_runner(
    zone_name: str, cadence: str, warehouse: Settings
) -> None:
    """pg_cron's requests and the SLA go by the former, the daemon by the latter."""
    moments = [at(text) for texts in CHANGES.values() for text in texts]
    ranges = [(moment - timedelta(days=2), moment + timedelta(days=2)) for moment in moments]
    ranges += [(at(f"{first}T00:00"), at(f"{last}T00:00")) for first, last in YEARS_EDGES]
    connection = connect(warehouse, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute("set timezone = %s", (zone_name,))
            for begin, end in ranges:
                cursor.execute(
                    "select slot from metadata.cron_slots(%s, %s, %s) as slot order by slot",
                    (cadence, begin, end),
                )
                found = [slot for (slot,) in cursor.fetchall()]
                assert found == slots_between(cadence, begin - timedelta(seconds=1), end)
    finally:
        connection.close()


def test_records_at_the_edges_of_years_are_in_their_iso_week(
    zone: str,  # noqa: ARG001 - it is where everything happens
    built: ComparedWarehouse,
    tmp_path: Path,
) -> None:
    expected: dict[tuple[Any, ...], list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0)])
    labels = set()
    for number, (first, last) in enumerate(YEARS_EDGES):
        report = simulate(
            specification(
                tmp_path / str(number),
                first_day=first,
                last_day=last,
                rows=600,
                organization_prefix=f"edge{number}",
            )
        )
        assert built.load("oversight", tmp_path / str(number) / "oversight").is_clean
        for key, spend, revenue in amounts(report):
            expected[key][0] += spend
            expected[key][1] += revenue
            year, week, _ = key[1].isocalendar()
            labels.add(f"{year}-W{week:02}")
    built.refresh()
    assert {"2020-W53", "2021-W01", "2026-W53", "2027-W01"} <= labels
    found = built.rows(
        "select organization_id, week, partner_id, spend, revenue"
        " from reporting.weekly_partner_performance"
    )
    assert {row[:3]: list(row[3:]) for row in found} == expected
    assert built.rows(
        "select distinct extract(isodow from week)::integer"
        " from reporting.weekly_partner_performance"
    ) == [(1,)]
    verdicts = {text for (text,) in built.rows("select verdict from metadata.parity_verdicts")}
    assert verdicts == {"ok", "unchecked"}  # of the weeks that the range cuts


def amounts(report: Report) -> Iterator[tuple[tuple[str, date, str], Decimal, Decimal]]:
    """Organization, Monday and partner of each record, by Python alone; spend and revenue."""
    for table in ("spend", "events"):
        for row in final(report, table).values():
            day = date.fromisoformat(row["occurred_at"][:10])
            key = (
                row["organization_id"],
                day - timedelta(days=day.weekday()),
                f"oversight:{row['partner_id']}",
            )
            if table == "spend":
                yield key, Decimal(row["spend_amount"]), Decimal(0)
            else:
                is_revenue = row["event_type"] == "revenue"
                yield key, Decimal(0), Decimal(row["amount"] if is_revenue else 0)
