"""Formats: the same record is the same whatever file it comes in, and numbers keep every digit."""

from __future__ import annotations

import calendar
import json
from pathlib import Path

import duckdb
import pytest
from landings import GOOD, HEADER, SPEND, Shop, column, counted, with_columns

from runner.landing.errors import LandingError
from runner.landing.values import convert
from warehouse.settings import Settings

TYPED = with_columns(
    SPEND,
    column("at", "timestamptz"),
    column("ratio", "double precision"),
    column("is_new", "boolean"),
    zone="America/New_York",
)


@pytest.fixture
def shop(warehouse: Settings, tmp_path: Path) -> Shop:
    return Shop(settings=warehouse, folder=tmp_path)


def everything(shop: Shop) -> list[object]:
    return shop.raw(
        "record_key, content_hash::text, day::text, amount::text, clicks, note, at::text, ratio, "
        "is_new"
    )


def test_csv_json_lines_and_parquet_of_the_same_records_are_equal(
    shop: Shop, tmp_path: Path
) -> None:
    """Landed from CSV, the other two bring nothing new."""
    shop.tables = (TYPED,)
    query = """
        select * from (values
            ('a', date '2026-01-31', 1.50::decimal(18, 2), 3, 'x "y", z', 0.25::double, true,
                timestamp '2026-01-31 12:00:00.5'),
            ('b', null, -0.07, 9007199254740993, null, 1e-7, false, null),
            ('c', date '2024-02-29', 1000000, 0, 'two' || chr(10) || 'lines', null, null,
                timestamp '2026-07-01 00:00:00')
        ) as v (id, day, amount, clicks, note, ratio, is_new, "at")
    """
    files = {}
    with duckdb.connect() as connection:
        for name, options in (
            ("spend.csv", "format csv, header"),
            ("spend.jsonl", "format json"),
            ("spend.parquet", "format parquet"),
        ):
            path = tmp_path / name
            connection.execute(f"copy ({query}) to '{path}' ({options})")
            files[name] = path.read_bytes()
    assert counted(shop.load(files["spend.csv"])) == [(3, 3, 0, 0)]
    landed = everything(shop)
    assert landed[0][2:] == (  # type: ignore[index]
        "2026-01-31", "1.5", 3, 'x "y", z', "2026-01-31 17:00:00.5+00", 0.25, True,
    )  # fmt: skip
    assert landed[2][5:7] == ("two\nlines", "2026-07-01 04:00:00+00")  # type: ignore[index]
    for name in ("spend.jsonl", "spend.parquet"):
        assert counted(shop.load(files[name], name)) == [(3, 0, 0, 3)], name
    assert everything(shop) == landed


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_and_byte_order_marks(shop: Shop, encoding: str) -> None:
    shop.tables = (with_columns(SPEND, encoding=encoding.removesuffix("-sig")),)
    assert shop.load(f"{HEADER}\na,2026-01-01,1,1,é\n".encode(encoding)).is_clean
    assert shop.raw("id, note") == [("a", "é")]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_and_quotes(shop: Shop, end: str) -> None:
    records = ['a,2026-01-01,1,1,"x, y"', 'b,2026-01-01,1,1,"say ""hi"""', 'c,2026-01-01,,,"1\n2"']
    text = end.join([HEADER, *records, ""])
    assert counted(shop.load(text)) == [(3, 3, 0, 0)]
    assert shop.raw("id, note") == [("a", "x, y"), ("b", 'say "hi"'), ("c", "1\n2")]
    assert shop.raw("amount, clicks")[2] == (None, None)


def test_another_delimiter_and_another_order_of_columns(shop: Shop) -> None:
    shop.tables = (with_columns(SPEND, delimiter=";"),)
    assert shop.load("note;more;clicks;amount;day;id\nn;m;1;2;2026-01-01;a\n").is_clean
    assert shop.raw("id, day::text, amount::text, clicks, note") == [
        ("a", "2026-01-01", "2", 1, "n")
    ]


def test_undeclared_columns_are_left_out_and_listed(shop: Shop) -> None:
    report = shop.load(f"{HEADER},extra,more\n{GOOD},1,2\n")
    assert report.files[0].undeclared_columns == ("extra", "more")


def test_an_optional_column_may_be_missing(shop: Shop) -> None:
    shop.tables = (with_columns(SPEND, column("extra", is_optional=True)),)
    assert shop.load(f"{HEADER}\n{GOOD}\n").is_clean
    assert shop.raw("extra") == [(None,)]


@pytest.mark.parametrize(
    ("text", "landed"),
    [
        ("1.50", "1.5"), ("+1", "1"), ("-0.0", "0"), ("007.10", "7.1"), (".5", "0.5"), ("5.", "5"),
        ("1e3", "1000"), ("-1.5E-3", "-0.0015"), ("0", "0"), ("-12", "-12"),
        ("0.1234567890123456789012345678901234567890", "0.123456789012345678901234567890123456789"),
        ("123456789012345678901234567890.5", "123456789012345678901234567890.5"),
    ],
)  # fmt: skip
def test_numbers_keep_every_digit(shop: Shop, text: str, landed: str) -> None:
    assert shop.load(f"{HEADER}\na,2026-01-01,{text},1,\n").is_clean
    assert shop.raw("amount::text") == [(landed,)]


def test_json_numbers_keep_every_digit(shop: Shop) -> None:
    digits = "12345678901234567.891234567"
    lines = [
        f'{{"id": "a", "day": "2026-01-01", "amount": {digits}, "clicks": 9007199254740993, '
        '"note": {"deep": [1, 2]}}',
        '{"clicks": "5", "id": "b", "amount": "0.10", "note": "amount: 1", "day": null}',
    ]
    assert counted(shop.load("\n".join(lines) + "\n", "spend.jsonl")) == [(2, 2, 0, 0)]
    assert shop.raw("amount::text, clicks, note") == [
        (digits, 9007199254740993, '{"deep":[1,2]}'), ("0.1", 5, "amount: 1"),
    ]  # fmt: skip


def test_each_malformed_json_line_is_one_reject(shop: Shop) -> None:
    good = {"id": "a", "day": "2026-01-01", "amount": 1, "clicks": 1, "note": "x\ty"}
    lines = [
        json.dumps(good), '{"id": "cut', "[1, 2]", json.dumps({**good, "id": "b", "clicks": 1.5}),
        "", json.dumps({**good, "id": "c", "note": "x\0y"}), json.dumps({**good, "id": "d"}),
    ]  # fmt: skip
    report = shop.load("\n".join(lines) + "\n", "spend.jsonl")
    assert counted(report) == [(6, 2, 4, 0)]
    assert [row[1] for row in shop.rejects()] == [
        ["the line is no JSON object"], ["the line is no JSON object"],
        ['column "clicks": "1.5" is not an integer'], ['column "note" holds a NUL byte'],
    ]  # fmt: skip
    assert shop.rejects()[0][2] == '{"id": "cut'


def test_json_lines_that_never_have_a_declared_column_are_rejected(shop: Shop) -> None:
    report = shop.load('{"id": "a", "day": "2026-01-01", "amount": 1, "note": ""}\n', "spend.jsonl")
    assert report.error is not None
    assert "lacks the declared column clicks" in report.error


@pytest.mark.parametrize(
    ("formats", "zone", "text", "landed"),
    [
        ((), "UTC", "2026-01-31T23:00:00", "2026-01-31 23:00:00+00"),
        ((), "Europe/Berlin", "2026-07-01 00:30:00.25", "2026-06-30 22:30:00.25+00"),
        ((), "America/New_York", "2026-01-31T23:00:00Z", "2026-01-31 23:00:00+00"),
        ((), None, "2026-01-31T23:00:00+02:00", "2026-01-31 21:00:00+00"),
        ((), None, "2026-01-31T23:00:00.123456-0530", "2026-02-01 04:30:00.123456+00"),
        (("%d.%m.%Y %H:%M",), "UTC", "5.2.2026 7:05", "2026-02-05 07:05:00+00"),
        (("%Y-%m-%dT%H:%M:%SZ",), None, "2026-01-31T23:00:00Z", "2026-01-31 23:00:00+00"),
        (("%Y-%m-%d", "%m/%d/%y %H:%M"), "UTC", "1/5/26 2:20", "2026-01-05 02:20:00+00"),
    ],
)
def test_timestamps_are_read_as_declared(
    shop: Shop, formats: tuple[str, ...], zone: str | None, text: str, landed: str
) -> None:
    shop.tables = (with_columns(SPEND, column("at", "timestamptz", formats=formats, zone=zone)),)
    report = shop.load(f"{HEADER},at\n{GOOD},{text}\n")
    assert report.error is None
    assert shop.rejects() == []
    assert shop.raw("at::text") == [(landed,)]


def test_a_time_without_a_zone_is_rejected_where_none_is_declared(shop: Shop) -> None:
    shop.tables = (with_columns(SPEND, column("at", "timestamptz")),)
    assert counted(shop.load(f"{HEADER},at\n{GOOD},2026-01-31T00:00:00\n")) == [(1, 0, 1, 0)]
    formats = ("%Y-%m-%d %H:%M:%S",)
    with pytest.raises(LandingError, match="add `zone:`"):
        convert(
            column("at", "timestamptz", formats=formats), "r", zone=None, place="here", max_bytes=9
        )


@pytest.mark.parametrize("data_type", ["date", "timestamptz"])
@pytest.mark.parametrize(
    ("form", "ending"),
    [
        ("%Y-%m-%d", ""), ("%Y-%m-%dT%H:%M:%S", "T01:02:03"),
        ("%Y-%m-%d %H:%M:%S.%f", " 01:02:03.5"),
        ("%Y-%m-%dT%H:%M:%S%z", "T01:02:03Z"), ("%Y-%m-%dT%H:%M:%S%z", "T01:02:03+00:00"),
        ("%Y-%m-%dT%H:%M:%S%z", "T01:02:03-0800"), ("%Y-%m-%dT%H:%M:%S.%f%z", "T01:02:03.25+01:00"),
        ("%Y-%m-%dT%H:%M:%SZ", "T01:02:03Z"),
    ],
)  # fmt: skip
def test_days_that_do_not_exist_are_never_taken(data_type: str, form: str, ending: str) -> None:
    """Every month of four years, up to day 32: DuckDB takes February 30 in one of its forms."""
    value = convert(
        column("at", data_type, formats=(form, "%d/%m/%Y")), "r", zone="UTC", place="", max_bytes=99
    )
    days = [
        (year, month, day)
        for year in (1900, 2000, 2024, 2025)
        for month in range(14)
        for day in range(33)
    ]
    exists = [
        1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]
        for year, month, day in days
    ]
    texts = [f"{year}-{month:02}-{day:02}{ending}" for year, month, day in days]
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        taken = connection.execute(
            f"select {value.sql} is not null from (select unnest(?) as r)", [texts]
        ).fetchall()
    assert [bool(row[0]) for row in taken] == exists


def test_a_date_is_the_engines_day_whatever_the_zone(shop: Shop) -> None:
    formats = ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")
    day = column("day", "date", formats=formats)
    shop.tables = (with_columns(SPEND, day, zone="Asia/Tokyo"),)
    texts = [
        "2026-01-31 23:30:00",
        "2026-01-31T23:30:00-09:00",
        "2026-01-31T00:30:00Z",
        "2026-01-31",
    ]
    shop.load("\n".join([HEADER, *(f"r{n},{text},1,1," for n, text in enumerate(texts))]) + "\n")
    assert shop.raw("day::text") == [("2026-01-31",)] * 4


def test_a_scaled_number_is_not_rounded(shop: Shop) -> None:
    shop.tables = (with_columns(SPEND, column("amount", "numeric(6,2)")),)
    report = shop.load(f"{HEADER}\na,2026-01-01,1234.50,1,\nb,2026-01-01,1.555,1,\nc,,12345,1,\n")
    assert counted(report) == [(3, 1, 2, 0)]
    assert shop.rejects()[0][1] == [
        'column "amount": "1.555" is not a number that fits numeric(6,2)'
    ]


def test_files_with_odd_names_and_others_beside_them(shop: Shop) -> None:
    name = "spend [a]*?'x'.csv"
    report = shop.load_files(
        {name: f"{HEADER}\n{GOOD}\n", "readme.txt": "x", ".hidden": "x", "lost.control.json": "{}"}
    )
    assert report.is_clean
    assert report.ignored == (".hidden", "lost.control.json", "readme.txt")
    assert shop.query("select file_name from metadata.landed_files") == [(name,)]
