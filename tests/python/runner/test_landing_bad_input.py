"""Bad input: each a clear error, and nothing lost."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from landings import GOOD, HEADER, SPEND, Shop, column, counted, with_columns

from runner.landing.errors import LandingError
from runner.landing.load import engine_folders
from runner.landing.scan import Scan, scan
from warehouse.errors import DatabaseUnreachableError
from warehouse.settings import Settings


@pytest.fixture
def shop(warehouse: Settings, tmp_path: Path) -> Shop:
    return Shop(settings=warehouse, folder=tmp_path)


def csv(*records: str, header: str = HEADER) -> str:
    return "\n".join([header, *records]) + "\n"


def assert_rejected_batch(shop: Shop, content: str | bytes, *words: str, **options: object) -> None:
    """The message holds the words, and nothing but the batch's row is left."""
    shop.load(csv("before,2026-01-01,1,1,"))
    before = shop.counts()
    report = shop.load(content, **options)  # type: ignore[arg-type]
    assert report.status == "rejected"
    assert report.error is not None
    for word in words:
        assert word in report.error
    assert shop.counts() == before
    status, stored = shop.query(
        "select status, report ->> 'error' from metadata.batches where batch_id = %s",
        (report.batch_id,),
    )[0]
    assert (status, stored) == ("rejected", report.error)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("b,2026-01-01,abc,1,", 'column "amount": "abc" is not a number'),
        ("b,2026-01-01,1,1.5,", 'column "clicks": "1.5" is not an integer'),
        ("b,2026-01-01,1,99999999999999999999,", 'column "clicks": "99999999999999999999" is not'),
        ("b,2026-01-01,NaN,1,", 'column "amount": "NaN" is not a number'),
        ("b,2026-01-01,1 000,1,", 'column "amount": "1 000" is not a number'),
        ("b,2026-02-30,1,1,", 'column "day": "2026-02-30" is not a date like %Y-%m-%d'),
        ("b,2025-02-29,1,1,", 'column "day": "2025-02-29" is not a date'),
        ("b,26-01-01,1,1,", 'column "day": "26-01-01" is not a date'),
        (",2026-01-01,1,1,", 'column "id" is empty'),
        ('"a,b",2026-01-01,1,1,', 'column "id": "a,b" is no id'),
        ("a{b,2026-01-01,1,1,", 'column "id": "a{b" is no id'),
        ("a'b,2026-01-01,1,1,", "is no id"),
        ("*,2026-01-01,1,1,", "or is a star"),
        ("b,2026-01-01,1,1", "it has too few fields"),
        ("b,2026-01-01,1,1,x,y", "it has too many fields"),
        ('b,2026-01-01,1,1,"x"y', "a quoted field is not closed"),
    ],
)
def test_a_bad_record_is_kept_with_its_reason_and_the_others_land(
    shop: Shop, record: str, reason: str
) -> None:
    report = shop.load(csv(GOOD, record, "z,2026-01-02,2,2,last"))
    assert counted(report) == [(3, 2, 1, 0)]
    assert not report.is_clean
    assert [row[0] for row in shop.raw("id")] == ["a", "z"]
    number, reasons, text = shop.rejects()[0]
    assert number == 2
    assert reason in reasons[0]
    assert text


def test_a_record_names_all_its_bad_columns(shop: Shop) -> None:
    shop.load(csv("b,2026-13-01,x,y,"))
    assert [text.split(":")[0] for text in shop.rejects()[0][1]] == [
        'column "day"', 'column "amount"', 'column "clicks"',
    ]  # fmt: skip


def test_numbers_of_records_count_those_that_could_not_be_parsed(shop: Shop) -> None:
    bad = "b,2026-01-01,x,1,"
    shop.load(csv(GOOD, "short", bad, "short,2", GOOD.replace("a,", "c,"), bad, "1,2,3,4,5,6,7"))
    assert [row[0] for row in shop.rejects()] == [2, 3, 4, 6, 7]


@pytest.mark.parametrize("end", ["", "x,2026-01-02,1.5", "x,2026-01-02,1.55,3,cut"])
def test_a_truncated_csv_loses_only_its_last_record(shop: Shop, end: str) -> None:
    text = csv("a,2026-01-01,1,1,one", "b,2026-01-01,1,1,two")
    text = text + end if end else text[:-3]
    report = shop.load(text)
    assert [count.rejected for count in report.files] == [1]
    assert not report.is_clean
    assert [row[0] for row in shop.raw("id")] == (["a", "b"] if end else ["a"])


def test_a_file_cut_within_quotes_loses_only_its_last_record(shop: Shop) -> None:
    report = shop.load(csv(GOOD) + 'b,2026-01-01,1,1,"cut in')
    assert counted(report) == [(2, 1, 1, 0)]
    assert shop.rejects()[0][:2] == (
        2, ["a quoted field is not closed, or goes on after its closing quote"],
    )  # fmt: skip


def test_a_missing_final_newline_is_right_where_declared(shop: Shop) -> None:
    shop.tables = (replace(SPEND, final_newline="optional"),)
    assert shop.load(csv(GOOD).rstrip("\n")).is_clean


def test_nul_bytes_are_rejected(shop: Shop) -> None:
    report = shop.load(csv(GOOD, "b,2026-01-01,1,1,x\0y", "c\0,2026-01-01,1,1,"))
    assert counted(report) == [(3, 1, 2, 0)]
    assert shop.rejects()[0][1] == ['column "note" holds a NUL byte']
    assert 'column "id" holds a NUL byte' in shop.rejects()[1][1]


def test_a_field_of_10_mb_is_rejected_in_little_memory(shop: Shop) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = shop.load(csv(GOOD, f"b,2026-01-01,1,1,{'x' * 10_000_000}", "c,2026-01-01,1,1,"))
    assert counted(report) == [(3, 2, 1, 0)]
    number, reasons, text = shop.rejects()[0]
    assert (number, reasons) == (2, ["it is longer than 4194304 bytes"])
    assert len(text) < 10_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def test_a_field_over_1_mb_is_rejected_and_one_below_lands(shop: Shop) -> None:
    report = shop.load(csv(f"b,2026-01-01,1,1,{'x' * 1_048_577}", f"c,2026-01-01,1,1,{'x' * 9**6}"))
    assert counted(report) == [(2, 1, 1, 0)]
    assert shop.rejects()[0][1] == ['column "note" is 1048577 bytes long, over 1048576']


def test_a_record_that_is_not_utf8_is_rejected(shop: Shop) -> None:
    report = shop.load(csv(GOOD).encode() + b"b,2026-01-01,1,1,\xff\xfe\n")
    assert counted(report) == [(2, 1, 1, 0)]
    assert shop.rejects()[0][1] == ["it is not valid in the declared encoding"]


def test_an_amount_in_another_currency_is_rejected(shop: Shop) -> None:
    shop.tables = (with_columns(SPEND, column("currency"), currency_column="currency"),)
    header = f"{HEADER},currency"
    report = shop.load(
        csv(f"{GOOD},USD", "b,2026-01-01,1,1,,EUR", "c,2026-01-01,1,1,,", header=header)
    )
    assert counted(report) == [(3, 1, 2, 0)]
    assert [row[1] for row in shop.rejects()] == [
        ['column "currency": "EUR" is not the reporting currency USD'],
        ['column "currency" is empty'],
    ]


def test_a_wrong_delimiter_rejects_the_batch(shop: Shop) -> None:
    text = csv(GOOD).replace(",", ";")
    assert_rejected_batch(shop, text, "spend.csv", "lacks the declared columns id", "';'")


def test_a_missing_column_rejects_the_batch(shop: Shop) -> None:
    text = csv("a,2026-01-01,1,x", header="id,day,amount,note")
    assert_rejected_batch(shop, text, "spend.csv", "lacks the declared column clicks")


def test_an_empty_file_rejects_the_batch(shop: Shop) -> None:
    assert_rejected_batch(shop, "", "spend.csv", "the file is empty")


def test_a_file_of_headers_only_rejects_the_batch(shop: Shop) -> None:
    assert_rejected_batch(shop, csv(), "it holds no records", "--allow-void")


def test_a_file_of_headers_only_lands_when_its_control_file_says_so(shop: Shop) -> None:
    assert shop.load(csv(), control={"records": 0}).is_clean


def test_mixed_line_ends_reject_the_batch(shop: Shop) -> None:
    mixed = f"{HEADER}\na,2026-01-01,1,1,x\r\nb,2026-01-01,1,1,y\n"
    assert_rejected_batch(shop, mixed, "lines end in different ways")


@pytest.mark.parametrize("place", [0, 1, 30_000])
def test_a_quote_that_is_never_closed_rejects_the_batch(shop: Shop, place: int) -> None:
    """DuckDB would drop what follows it, without a word."""
    records = [f"r{number},2026-01-01,1,1,{'n' * 300}" for number in range(40_000)]
    records.insert(place, 'q,2026-01-01,1,1,"open')
    assert_rejected_batch(shop, csv(*records), "spend.csv", "not closed")


@pytest.mark.parametrize("name", ["spend.csv", "spend.jsonl"])
def test_a_line_without_end_rejects_the_batch(shop: Shop, name: str) -> None:
    assert_rejected_batch(
        shop, csv(GOOD, "x" * 20_000_000, GOOD), "a line is longer than 16777216 bytes", name=name
    )


@pytest.mark.parametrize("name", ["spend.jsonl", "spend.parquet"])
def test_a_field_of_10_mb_is_rejected_in_the_other_formats(shop: Shop, name: str) -> None:
    with duckdb.connect() as connection:
        kind = "parquet" if name.endswith("parquet") else "json"
        connection.execute(
            f"copy (select 'r' || i as id, '2026-01-01' as day, 1 as amount, 1 as clicks, "
            f"repeat('x', if(i = 1, 10000000, 9)) as note from range(3) as n(i)) "
            f"to '{shop.folder / name}' (format {kind})"
        )
    report = shop.load((shop.folder / name).read_bytes(), name)
    assert counted(report) == [(3, 2, 1, 0)]


def test_a_file_whose_records_do_not_fit_its_header_rejects_the_batch(shop: Shop) -> None:
    text = csv(*(f"r{number},2026-01-01,1" for number in range(100)))
    assert_rejected_batch(shop, text, "its header has 5 fields, its records have 3")


def test_a_file_of_which_too_much_cannot_be_parsed_rejects_the_batch(shop: Shop) -> None:
    good = [GOOD] * 1000
    text = csv(*good, *(f"r{number},2026-01-01,1" for number in range(50_000)))
    assert_rejected_batch(shop, text, "50000 records or more can't be parsed")


def test_a_reader_that_loses_a_record_rejects_the_batch(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's line ends are made to say one record more than the reader gives."""

    def one_more(path: Path, **options: Any) -> Scan:
        result = scan(path, **options)
        return replace(result, records=frozenset(count + 1 for count in result.records))

    shop.load(csv("before,2026-01-01,1,1,"))
    before = shop.counts()
    monkeypatch.setattr("runner.landing.extracts.scan", one_more)
    report = shop.load(csv(GOOD))
    assert report.error is not None
    assert "2 records can be told apart, but its line ends make 3" in report.error
    assert shop.counts() == before


def test_blank_lines_and_stray_quotes_are_no_fault(shop: Shop) -> None:
    text = csv("", GOOD, "", "", 'b,2026-01-01,1,1,5" pipe', 'c,2026-01-01,1,1,"x\n\ny"', "")
    assert counted(shop.load(text)) == [(3, 3, 0, 0)]
    text = "\r\n".join([HEADER, "", 'd,2026-01-01,1,1,"x\r\n\r\ny"', "", "e,2026-01-01,1,1,z", ""])
    assert counted(shop.load(text)) == [(2, 2, 0, 0)]


def test_an_unreadable_parquet_file_rejects_the_batch(shop: Shop) -> None:
    assert_rejected_batch(shop, b"PAR1cut", "no readable Parquet", name="spend.parquet")


def test_a_utf16_file_that_is_declared_utf8_rejects_the_batch(shop: Shop) -> None:
    assert_rejected_batch(shop, csv(GOOD).encode("utf-16"), "UTF-16")


def test_a_bad_file_keeps_the_good_one_of_its_batch_out(shop: Shop) -> None:
    shop.load(csv("before,2026-01-01,1,1,"))
    before = shop.counts()
    report = shop.load_files({"spend_1.csv": csv(GOOD), "spend_2.csv": "", "spend_3.csv": "x\n1\n"})
    assert report.error is not None
    assert "spend_2.csv" in report.error
    assert "spend_3.csv" in report.error
    assert shop.counts() == before
    assert counted(shop.load(csv(GOOD))) == [(1, 1, 0, 0)]


def test_a_control_file_that_counts_otherwise_rejects_the_batch(shop: Shop) -> None:
    assert_rejected_batch(
        shop, csv(GOOD), "holds 1 records, but its control file says 2", control={"records": 2}
    )


def test_a_file_that_two_tables_declare_rejects_the_batch(shop: Shop) -> None:
    shop.tables = (SPEND, replace(SPEND, name="other", relation="shop__other", files=("sp*",)))
    report = shop.load(csv(GOOD))
    assert report.error is not None
    assert "spend and other" in report.error


def test_an_engine_that_is_not_declared_is_an_error_before_anything_lands(shop: Shop) -> None:
    folder = shop.folder / "in"
    (folder / "shop").mkdir(parents=True)
    (folder / "shopp").mkdir()
    with pytest.raises(LandingError, match="shopp is declared"):
        engine_folders(folder, shop.catalogue, None)
    with pytest.raises(LandingError, match="engine nobody is not declared; declared are: shop"):
        engine_folders(folder, shop.catalogue, "nobody")
    (folder / "shopp").rmdir()
    assert engine_folders(folder, shop.catalogue, None) == {"shop": folder / "shop"}
    with pytest.raises(LandingError, match="is no folder"):
        engine_folders(folder / "none", shop.catalogue, None)


def test_an_unreachable_database_is_an_error_that_names_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql://nobody:secret@127.0.0.1:1/nothing"
    shop.settings = replace(shop.settings, database_url=url)
    with pytest.raises(DatabaseUnreachableError, match=r"127\.0\.0\.1") as error:
        shop.load(csv(GOOD))
    assert "secret" not in str(error.value)
    from runner.cli import main

    monkeypatch.setenv("OVERSIGHT_DATABASE_URL", url)
    result = CliRunner().invoke(main, ["load", "--path", str(shop.folder)])
    assert result.exit_code == 1
    assert "can't reach the database" in result.output
