"""Versions: idempotent loads, corrected and withdrawn records, and which one is the newest."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from landings import GOOD, HEADER, SPEND, Shop, column, counted, with_columns

from runner.landing.ledger import LoadReport
from warehouse import database
from warehouse.settings import Settings

STAMPED = with_columns(SPEND, column("stamp", "timestamptz"), version_column="stamp", zone="UTC")
SYNCED = with_columns(
    SPEND, column("synced", "timestamptz", is_volatile=True), extracted_at="synced", zone="UTC"
)
WITHDRAWABLE = with_columns(SPEND, column("gone", "boolean"), void_column="gone")


@pytest.fixture
def shop(warehouse: Settings, tmp_path: Path) -> Shop:
    return Shop(settings=warehouse, folder=tmp_path)


def record(name: str, amount: str, *more: str) -> str:
    return ",".join([name, "2026-01-01", amount, "1", "", *more])


def load(shop: Shop, *records: str, more: str = "") -> LoadReport:
    return shop.load("\n".join([HEADER + more, *records]) + "\n")


def newest(shop: Shop) -> list[tuple[str, str]]:
    return shop.newest("id, amount::text", "spend")


def test_the_same_file_is_skipped_whole(any_warehouse: Settings, tmp_path: Path) -> None:
    shop = Shop(settings=any_warehouse, folder=tmp_path)
    assert counted(load(shop, GOOD)) == [(1, 1, 0, 0)]
    before = shop.counts(), shop.query("select count(*) from metadata.batches")
    report = load(shop, GOOD)
    assert report.skipped == {"spend.csv": 1}
    assert report.batch_id is None
    assert report.is_clean
    assert (shop.counts(), shop.query("select count(*) from metadata.batches")) == before


def test_the_same_records_in_another_file_are_unchanged(shop: Shop) -> None:
    load(shop, record("a", "1"), record("b", "2"))
    report = load(shop, record("b", "2.00"), record("a", "1"), record("c", "3"))
    assert counted(report) == [(3, 1, 0, 2)]
    assert shop.raw() == [("a", "1", False), ("b", "2", False), ("c", "3", False)]


def test_a_then_b_then_a_are_three_versions(shop: Shop) -> None:
    for number, amount in enumerate(("1", "2", "1", "1")):
        load(shop, record("a", amount), record(f"other{number}", "9"))
    assert [row for row in shop.raw("id, amount::text") if row[0] == "a"] == [
        ("a", "1"), ("a", "2"), ("a", "1"),
    ]  # fmt: skip


def test_versions_in_one_file_land_in_its_order(shop: Shop) -> None:
    amounts = ["1", "1", "2", "1", "3", "3"]
    report = load(shop, *(record("a", amount) for amount in amounts), record("b", "7"))
    assert counted(report) == [(7, 5, 0, 2)]
    assert [row[1] for row in shop.raw() if row[0] == "a"] == ["1", "2", "1", "3"]
    assert newest(shop) == [("a", "3"), ("b", "7")]
    assert counted(load(shop, record("a", "3"), record("a", "4"), record("a", "4"))) == [
        (3, 1, 0, 2)
    ]


def test_versions_in_several_files_land_in_the_order_of_their_names(shop: Shop) -> None:
    text = f"{HEADER}\n"
    files: dict[str, str | bytes] = {
        "spend_2.csv": text + record("a", "2") + "\n",
        "spend_1.csv": text + record("a", "1") + "\n",
    }
    report = shop.load_files(files)
    assert [count.file_name for count in report.files] == ["spend_1.csv", "spend_2.csv"]
    assert newest(shop) == [("a", "2")]


def test_the_declared_version_beats_the_order_of_loading(shop: Shop) -> None:
    shop.tables = (STAMPED,)
    load(shop, record("a", "3", "2026-01-03T00:00:00"), more=",stamp")
    load(shop, record("a", "1", "2026-01-01T00:00:00"), record("a", "5", "2026-01-05T00:00:00"),
         record("a", "4", "2026-01-04T00:00:00"), more=",stamp")  # fmt: skip
    assert newest(shop) == [("a", "5")]
    assert shop.raw("amount::text, record_version") == [
        ("3", 1767398400000000), ("1", 1767225600000000),
        ("4", 1767484800000000), ("5", 1767571200000000),
    ]  # fmt: skip


@pytest.mark.parametrize("extracted_at", [None, "stamp"])
def test_an_older_version_that_is_there_already_does_not_land_again(
    shop: Shop, extracted_at: str | None
) -> None:
    shop.tables = (replace(STAMPED, extracted_at=extracted_at),)
    history = [record("a", str(n), f"2026-01-0{n}T00:00:00") for n in (1, 2, 3)]
    assert counted(load(shop, *history, more=",stamp")) == [(3, 3, 0, 0)]
    longer = [*history, record("a", "4", "2026-01-04T00:00:00")]
    assert counted(load(shop, *longer, more=",stamp")) == [(4, 1, 0, 3)]


def test_a_volatile_column_makes_no_version_but_orders_them(shop: Shop) -> None:
    shop.tables = (SYNCED,)
    load(shop, record("a", "1", "2026-01-05 00:00:00"), more=",synced")
    report = load(shop, record("a", "1", "2026-01-06 00:00:00"), more=",synced")
    assert counted(report) == [(1, 0, 0, 1)]
    load(shop, record("a", "2", "2026-01-04 00:00:00"), more=",synced")
    assert newest(shop) == [("a", "1")]


def test_withdrawn_records_are_void_versions_and_come_back(shop: Shop) -> None:
    shop.tables = (WITHDRAWABLE,)
    for number, gone in enumerate(("false", "true", "true", "false")):
        load(shop, record("a", "1", gone), record(f"b{number}", "1", "false"), more=",gone")
    versions = [row for row in shop.raw() if row[0] == "a"]
    assert versions == [("a", "1", False), ("a", "1", True), ("a", "1", False)]
    assert shop.query("select accepted, voided from metadata.batch_tables order by batch_id") == [
        (2, 0),
        (2, 1),
        (1, 0),
        (2, 0),
    ]


def test_organizations_keep_records_of_the_same_key_apart(shop: Shop) -> None:
    shop.tables = (
        with_columns(SPEND, column("org"), organization_value=None, organization_column="org"),
    )
    report = load(shop, record("a", "1", "x"), record("a", "2", "y"), more=",org")
    assert counted(report) == [(2, 2, 0, 0)]
    assert shop.raw("organization_id, record_key") == [("x", "x|a"), ("y", "y|a")]
    assert shop.query("select organization_id, accepted from metadata.batch_tables order by 1") == [
        ("x", 1), ("y", 1),
    ]  # fmt: skip


def test_key_parts_cannot_run_into_one_another(shop: Shop) -> None:
    shop.tables = (replace(SPEND, key=("note", "amount")),)
    load(shop, "r,2026-01-01,1,1,a|b", "s,2026-01-01,1.0,1,a\\")
    assert shop.raw("record_key") == [(r"acme|a\|b|1",), (r"acme|a\\|1",)]


def test_a_column_that_is_added_and_empty_makes_no_versions(shop: Shop) -> None:
    load(shop, record("a", "1"))
    shop.tables = (with_columns(SPEND, column("extra")),)
    assert counted(load(shop, record("a", "1", ""), more=",extra")) == [(1, 0, 0, 1)]
    assert counted(load(shop, record("a", "1", "new"), more=",extra")) == [(1, 1, 0, 0)]


def test_files_read_again_are_unchanged(shop: Shop) -> None:
    load(shop, GOOD)
    report = shop.load(f"{HEADER}\n{GOOD}\n", again=True)
    assert counted(report) == [(1, 0, 0, 1)]


def test_a_batch_says_what_it_holds_and_how_far_it_goes(shop: Shop) -> None:
    shop.tables = (SYNCED,)
    load(shop, record("a", "1", "2026-01-05 00:00:00"), record("b", "1", "2026-01-06 00:00:00.5"),
         record("c", "x", "2026-02-01 00:00:00"), more=",synced")  # fmt: skip
    assert shop.query(
        "select engine, source_table, organization_id, accepted, extracted_through::text "
        "from metadata.batch_tables"
    ) == [("shop", "spend", "acme", 2, "2026-01-06 00:00:00.5+00")]
    assert shop.query("select records from metadata.landed_files") == [(3,)]
    stored = shop.query("select report -> 'files' -> 0 from metadata.batches")[0][0]
    assert (stored["read"], stored["accepted"], stored["rejected"]) == (3, 2, 1)


def test_a_load_notifies_when_it_commits(shop: Shop) -> None:
    connection = database.connect(shop.settings, autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute("listen oversight_landed")
        load(shop, GOOD)
        cursor.execute("select 1")
    assert [notice.payload for notice in connection.notifies] == ["shop"]
    connection.close()


def test_two_loads_of_one_engine_wait_for_each_other(shop: Shop) -> None:
    """Both bring the same records in different bytes, and meet while neither can write."""
    load(shop, record("z", "0"))
    other = Shop(settings=shop.settings, folder=shop.folder / "other")
    reports: list[LoadReport] = []
    records = [record(f"r{number}", "1") for number in range(100)]
    threads = [
        threading.Thread(target=lambda: reports.append(load(shop, *records))),
        threading.Thread(target=lambda: reports.append(load(other, *reversed(records)))),
    ]
    blocker = database.connect(shop.settings)
    with blocker, blocker.cursor() as cursor:
        cursor.execute("lock table staging.shop__spend in exclusive mode")
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while waiting(shop) < 2:
            assert time.monotonic() < deadline, "the loads never met"
            time.sleep(0.02)
    blocker.close()
    for thread in threads:
        thread.join()
    assert sorted(counted(report)[0][1] for report in reports) == [0, 100]
    assert shop.query("select count(*) from staging.shop__spend") == [(101,)]


def waiting(shop: Shop) -> int:
    """How many sessions of this warehouse wait for a lock."""
    return int(
        shop.query(
            "select count(*) from pg_stat_activity "
            "where datname = current_database() and wait_event_type = 'Lock'"
        )[0][0]
    )
