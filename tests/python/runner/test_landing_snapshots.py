"""Snapshots: what vanished is withdrawn, as of the declared time and within the declared window."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from landings import TOTALS, Shop, column, counted, with_columns

from warehouse.declared import AsOf, ExtractWindow
from warehouse.settings import Settings

T1, T2, T3 = (f"2026-02-0{day}T00:00:00Z" for day in (1, 2, 3))
D1, D2, D3, D4, D5 = (f"2026-01-0{day}" for day in range(1, 6))
WEEK = (D1, "2026-01-07")
FULL = {D1: 1, D2: 2, D3: 3, D4: 4, D5: 5}


@pytest.fixture
def shop(warehouse: Settings, tmp_path: Path) -> Shop:
    return Shop(settings=warehouse, folder=tmp_path)


def without(*days: str) -> dict[str, object]:
    return {day: amount for day, amount in FULL.items() if day not in days}


def test_what_vanished_is_withdrawn_and_may_come_back(
    any_warehouse: Settings, tmp_path: Path
) -> None:
    shop = Shop(settings=any_warehouse, folder=tmp_path)
    shop.total(FULL, as_of=T1, window=WEEK)
    report = shop.total(without(D3), as_of=T2, window=WEEK)
    assert counted(report) == [(4, 0, 0, 4)]
    assert report.voided == 1
    assert shop.newest() == [(day, str(amount)) for day, amount in without(D3).items()]
    assert shop.raw("day::text, amount::text, extracted_at::text, is_void", "totals")[-1] == (
        D3, "3", "2026-02-02 00:00:00+00", True,
    )  # fmt: skip
    assert counted(shop.total(FULL, as_of=T3, window=WEEK)) == [(5, 1, 0, 4)]
    assert len(shop.newest()) == 5
    assert shop.query("select accepted, voided from metadata.batch_tables order by batch_id") == [
        (5, 0), (0, 1), (1, 0),
    ]  # fmt: skip


def test_only_the_window_is_spoken_of(shop: Shop) -> None:
    shop.total(FULL, as_of=T1, window=WEEK)
    report = shop.total({D4: 4}, as_of=T2, window=(D3, D4), allow_void=True)
    assert report.voided == 1
    assert [day for day, _ in shop.newest()] == [D1, D2, D4, D5]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_loading_does_not_matter(shop: Shop, order: tuple[int, ...]) -> None:
    snapshots: list[tuple[dict[str, object], str]] = [
        (dict(FULL), T1), ({D1: 1, D2: 20, D4: 4, D5: 5}, T2), ({D1: 10, D2: 2, D4: 4}, T3),
    ]  # fmt: skip
    for number in order:
        amounts, as_of = snapshots[number]
        assert shop.total(amounts, as_of=as_of, window=WEEK, allow_void=True).is_clean
    assert shop.newest() == [(D1, "10"), (D2, "2"), (D4, "4")]


def test_an_older_snapshot_brings_only_days_that_no_newer_one_covers(shop: Shop) -> None:
    shop.total({D2: 2}, as_of=T2, window=(D2, D3))
    report = shop.total({D1: 1, D2: 99, D3: 3}, as_of=T1, window=(D1, D3))
    assert counted(report) == [(3, 1, 0, 2)]
    assert shop.newest() == [(D1, "1"), (D2, "2")]


def test_snapshots_of_one_batch_land_from_the_oldest_to_the_newest(shop: Shop) -> None:
    def control(as_of: str, records: int) -> dict[str, object]:
        return {"as_of": as_of, "window": {"from": WEEK[0], "to": WEEK[1]}, "records": records}

    report = shop.load_files(
        {"totals_a.csv": f"day,amount\n{D1},9\n", "totals_b.csv": f"day,amount\n{D1},1\n{D2},2\n"},
        control={"totals_a.csv": control(T2, 1), "totals_b.csv": control(T1, 2)},
        allow_void=True,
    )
    assert report.is_clean
    assert shop.newest() == [(D1, "9")]
    assert shop.query("select window_from::text, as_of::text from metadata.extract_windows") == [
        (D1, "2026-02-02 00:00:00+00")
    ]


def test_a_snapshot_that_would_withdraw_too_much_is_rejected(shop: Shop) -> None:
    shop.total(FULL, as_of=T1, window=WEEK)
    before = shop.counts()
    report = shop.total(without(D1, D2), as_of=T2, window=WEEK)
    assert report.error is not None
    assert "would withdraw 2 of the 5 records" in report.error
    assert shop.counts() == before
    assert shop.total(without(D1, D2), as_of=T2, window=WEEK, allow_void=True).voided == 2


def test_a_snapshot_cut_at_a_record_is_rejected(shop: Shop) -> None:
    control = {"as_of": T1, "window": {"from": D1, "to": D5}, "records": 2}
    report = shop.load(f"day,amount\n{D1},1\n", "totals.csv", control=control)
    assert report.error is not None
    assert "holds 1 records, but its control file says 2" in report.error
    assert shop.newest() == []


def test_a_snapshot_without_records_needs_leave(shop: Shop) -> None:
    shop.total(FULL, as_of=T1, window=WEEK)
    report = shop.total({}, as_of=T2, window=WEEK)
    assert report.error is not None
    assert "holds no records" in report.error
    assert shop.total({}, as_of=T2, window=WEEK, allow_void=True).voided == 5
    assert shop.newest() == []


def test_days_outside_the_window_are_rejected_and_nothing_is_withdrawn_then(shop: Shop) -> None:
    shop.total(FULL, as_of=T1, window=WEEK)
    report = shop.total({**without(D3), "2026-03-01": 1}, as_of=T2, window=WEEK)
    assert counted(report) == [(5, 0, 1, 4)]
    assert report.voided == 0
    assert "none was withdrawn" in report.notes[0]
    assert shop.rejects()[0][1] == [
        'column "day": the day is outside the window of the extract, 2026-01-01 to 2026-01-07'
    ]
    assert shop.rejects()[0][2] == '{"day": "2026-03-01", "amount": 1}'
    assert len(shop.newest()) == 5


def test_the_same_records_as_of_a_later_time_are_another_statement(shop: Shop) -> None:
    shop.total({D1: 1}, as_of=T1, window=WEEK)
    shop.total({D1: 2}, as_of=T2, window=WEEK)
    assert counted(shop.total({D1: 1}, as_of=T3, window=WEEK)) == [(1, 1, 0, 0)]
    assert shop.newest() == [(D1, "1")]


def test_the_control_file_must_be_there(shop: Shop) -> None:
    report = shop.load(f"day,amount\n{D1},1\n", "totals.csv")
    assert report.error is not None
    assert "totals.csv.control.json doesn't say it" in report.error


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ({"as_of": "yesterday"}, "no time like"),
        ({"as_of": "2026-01-01T00:00:00"}, "has no zone"),
        ({"as_of": T1, "window": {"from": D2, "to": D1}}, "before it begins"),
        ({"as_of": T1, "window": {"from": D1}}, "must hold `from` and `to`"),
        ({"as_of": T1, "window": {"from": "2026-02-30", "to": D1}}, "no day like"),
        ({"asof": T1}, "must hold one object with as_of, records, window"),
        ({"records": "5"}, "must be a count"),
    ],
)
def test_a_control_file_that_misfits_rejects_the_batch(
    shop: Shop, control: dict[str, object], words: str
) -> None:
    report = shop.load(f"day,amount\n{D1},1\n", "totals.csv", control=control)
    assert report.error is not None
    assert words in report.error


def test_window_and_time_may_stand_in_the_name(shop: Shop) -> None:
    shop.tables = (
        replace(
            TOTALS,
            window=ExtractWindow(kind="file_name", pattern=r"_(?P<from>\d{8})-(?P<to>\d{8})_"),
            as_of=AsOf(kind="file_name", pattern=r"_(?P<as_of>\d{8}T\d{6}Z)"),
        ),
    )
    shop.load(f"day,amount\n{D1},1\n", "totals_20260101-20260107_20260201T120000Z.csv")
    assert shop.query(
        "select window_from::text, window_to::text, as_of::text from metadata.extract_windows"
    ) == [(D1, "2026-01-07", "2026-02-01 12:00:00+00")]
    report = shop.load(f"day,amount\n{D1},1\n", "totals.csv")
    assert report.error is not None
    assert "finds no window in its name" in report.error


def test_window_and_time_may_stand_in_columns(shop: Shop) -> None:
    shop.tables = (
        with_columns(
            TOTALS,
            column("first", "date"),
            column("last", "date"),
            column("read_at", "timestamptz", is_volatile=True),
            zone="UTC",
            window=ExtractWindow(kind="columns", from_column="first", to_column="last"),
            as_of=AsOf(kind="column", column="read_at"),
        ),
    )
    header = "day,amount,first,last,read_at\n"
    ends = f"{D1},{D5}"
    shop.load(
        header + f"{D1},1,{ends},2026-02-01 00:00:00\n{D2},2,{ends},2026-02-01 10:00:00\n",
        "totals.csv",
    )
    report = shop.load(
        header + f"{D1},1,{ends},2026-02-02 00:00:00\n", "totals.csv", allow_void=True
    )
    assert counted(report) == [(1, 0, 0, 1)]
    assert shop.newest() == [(D1, "1")]
    assert shop.query("select distinct as_of::text from metadata.extract_windows order by 1") == [
        ("2026-02-01 10:00:00+00",), ("2026-02-02 00:00:00+00",),
    ]  # fmt: skip


def test_a_window_of_everything_needs_no_day(shop: Shop) -> None:
    shop.tables = (
        with_columns(
            TOTALS,
            column("read_at", "timestamptz", is_volatile=True),
            zone="UTC",
            date_column=None,
            window=ExtractWindow(kind="all"),
            as_of=AsOf(kind="column", column="read_at"),
        ),
    )
    lines = [f"{day},{amount}" for day, amount in FULL.items()]
    for hour, kept in ((1, lines), (2, lines[:-1])):
        text = "".join(f"{line},2026-02-01 0{hour}:00:00\n" for line in kept)
        assert shop.load("day,amount,read_at\n" + text, "totals.csv").is_clean
    assert [day for day, _ in shop.newest()] == [D1, D2, D3, D4]
    windows = shop.query("select window_from::text, window_to::text from metadata.extract_windows")
    assert windows == [("-infinity", "infinity")] * 2


def test_a_snapshot_speaks_only_of_the_organizations_in_it(shop: Shop) -> None:
    shop.tables = (
        with_columns(TOTALS, column("org"), organization_value=None, organization_column="org"),
    )
    control = {"window": {"from": WEEK[0], "to": WEEK[1]}}
    for org in ("x", "y"):
        text = f"day,amount,org\n{D1},1,{org}\n{D2},2,{org}\n"
        shop.load(text, "totals.csv", control={**control, "as_of": T1})
    text = f"day,amount,org\n{D1},1,x\n"
    shop.load(text, "totals.csv", control={**control, "as_of": T2}, allow_void=True)
    assert shop.newest("organization_id, day::text") == [("x", D1), ("y", D1), ("y", D2)]


def test_a_record_that_moved_out_of_the_window_is_not_withdrawn(shop: Shop) -> None:
    shop.tables = (with_columns(TOTALS, column("id"), key=("id",)),)

    def load(as_of: str, window: tuple[str, str], *records: str) -> int:
        control = {"as_of": as_of, "window": {"from": window[0], "to": window[1]}}
        text = "\n".join(["id,day,amount", *records, ""])
        report = shop.load(text, "totals.csv", control=control, allow_void=True)
        assert report.is_clean
        return report.voided

    load(T1, (D1, D2), f"x,{D1},1", f"y,{D1},1")
    load(T2, (D4, D5), f"x,{D4},1")
    assert load(T3, (D1, D2), f"y,{D2},1") == 0
    assert shop.newest("id, day::text") == [("x", D4), ("y", D2)]
