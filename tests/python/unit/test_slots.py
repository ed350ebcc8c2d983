"""Slots of cron lines: worked out from what was taken, the same whatever clocks and zones do."""

from __future__ import annotations

import itertools
import time
from datetime import datetime, timedelta, timezone

import pytest

from runner.schedule.slots import REMEMBERED, Job, due, next_slot, slots_between


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def job(cadence: str = "*/15 * * * *", since: str = "2026-11-01T00:00") -> Job:
    return Job(name="daily_metrics", kind="refresh", cadence=cadence, since=at(since))


def test_nothing_is_due_before_the_first_slot_after_the_job_was_declared() -> None:
    assert due([job(since="2026-11-01T00:01")], {}, at("2026-11-01T00:14")) == []


def test_a_slot_is_due_from_its_moment_on_and_only_until_it_is_taken() -> None:
    (found,) = due([job(since="2026-11-01T00:01")], {}, at("2026-11-01T00:15"))
    assert (found.slot, found.missed) == (at("2026-11-01T00:15"), ())
    assert due([job()], {"daily_metrics": found.slot}, at("2026-11-01T00:29:59")) == []


def test_after_a_night_without_a_runner_one_run_catches_up_and_the_others_are_missed() -> None:
    taken = {"daily_metrics": at("2026-11-01T20:00")}
    (found,) = due([job()], taken, at("2026-11-02T06:07"))
    assert found.slot == at("2026-11-02T06:00")
    assert len(found.missed) == 39
    assert found.missed[0] == at("2026-11-01T20:15")
    assert found.missed[-1] == at("2026-11-02T05:45")


def test_a_year_without_a_runner_is_remembered_no_further_than_the_limit() -> None:
    now = at("2026-11-01T00:07")
    (found,) = due([job(since="2025-11-01T00:00")], {}, now)
    assert found.missed[0] > now - REMEMBERED
    assert len(found.missed) + 1 == REMEMBERED / timedelta(minutes=15)


def test_a_clock_that_is_set_back_meets_taken_slots_and_starts_nothing() -> None:
    taken = {"daily_metrics": at("2026-11-01T12:00")}
    assert due([job()], taken, at("2026-11-01T11:00:30")) == []
    (found,) = due([job()], taken, at("2026-11-01T12:15"))
    assert (found.slot, found.missed) == (at("2026-11-01T12:15"), ())


def test_a_line_that_never_comes_is_never_due() -> None:
    assert due([job("0 0 30 2 *")], {}, at("2026-11-01T00:00")) == []


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize(
    "day",
    ["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-04-05", "2026-10-04"],
)
def test_no_slot_is_lost_or_doubled_when_the_clocks_of_a_zone_change(
    zone: str, day: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        start = at(f"{day}T00:00") - timedelta(days=1)
        found = slots_between("*/15 * * * *", start, start + timedelta(days=3))
        assert len(found) == 3 * 96
        assert {b - a for a, b in itertools.pairwise(found)} == {timedelta(minutes=15)}
    finally:
        monkeypatch.undo()
        time.tzset()


def test_200_slots_asked_for_each_second_are_each_due_once() -> None:
    taken: dict[str, datetime] = {}
    ran: list[datetime] = []
    now = at("2026-11-01T00:00:30")
    one = job("* * * * *", since="2026-11-01T00:00")
    while len(ran) < 200:
        now += timedelta(seconds=1)
        for item in due([one], taken, now):
            assert item.missed == ()
            ran.append(item.slot)
            taken[item.job.name] = item.slot
    assert ran == slots_between("* * * * *", one.since, now)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("2020-12-28T00:00", "2021-01-03T04:30"),  # 2020-W53
        ("2026-12-28T00:00", "2027-01-03T04:30"),  # 2026-W53, in which 2027-01-01 lies
        ("2027-01-04T00:00", "2027-01-10T04:30"),  # 2027-W01
    ],
)
def test_the_weekly_job_comes_once_in_every_iso_week(after: str, expected: str) -> None:
    assert next_slot("30 4 * * sun", at(after)) == at(expected)
    year = slots_between("30 4 * * sun", at("2025-12-29T00:00"), at("2027-01-10T00:00"))
    weeks = [slot.isocalendar()[:2] for slot in year]
    assert len(weeks) == len(set(weeks))
    assert (2026, 53) in weeks
