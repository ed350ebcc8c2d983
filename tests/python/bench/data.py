"""The rows that all contestants serve: in the marts of a built warehouse, and in a SQLite file."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from built import BuiltWarehouse

ORGANIZATION = "default"
FIRST_DAY = date(2023, 1, 2)
DAYS = 1000
WINDOW_DAYS = 92
FIRST_PARTNER = 100_000
COLUMNS = (
    "day", "partner_id", "spend", "revenue", "margin", "events", "impressions", "clicks"
)  # fmt: skip

_FILL = """
insert into reporting.daily_metrics
    (organization_id, day, partner_id, spend, revenue, margin, events, impressions, clicks)
select
    o.id, d.day, ({first} + p)::text, s.spend, s.spend * 3, s.spend * 2, 10 + n % 17, 1000 + n, n
from (values ('{organization}'), ('other')) as o (id)
cross join generate_series(date '{day}', date '{day}' + {days} - 1, interval '1 day') as d (day)
cross join generate_series(0, {partners} - 1) as p
cross join lateral (select (extract(doy from d.day)::int * 31 + p * 7) % 5000 as n) as n
cross join lateral (select (n * 37 + 1)::numeric(14, 2) / 4 as spend) as s
order by d.day, p
"""
_LEDGERS = """
insert into metadata.data_versions (model, organization_id, data_through)
select 'daily_metrics', o.id, now()
from (values ('{organization}'), ('other')) as o (id)
on conflict (model, organization_id) do update set data_through = excluded.data_through;
insert into metadata.parity_verdicts (organization_id, mart, partner_id, period, metric, verdict)
select organization_id, 'daily_metrics', partner_id, day, 'spend', 'ok'
from reporting.daily_metrics
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is filled and how long is measured."""

    partners: int
    """Of each of two organizations, with a row on each of 1,000 days."""
    rounds: int
    seconds: int

    @property
    def rows(self) -> int:
        """Rows of the mart."""
        return 2 * self.partners * DAYS


SIZES = {
    "small": Size(partners=50, rounds=2, seconds=2),
    "full": Size(partners=500, rounds=5, seconds=8),
}


@dataclass(frozen=True)
class Question:
    """One partner, 92 days."""

    partner_id: str
    first: date

    @property
    def last(self) -> date:
        """The last day, inclusive."""
        return self.first + timedelta(days=WINDOW_DAYS - 1)


def questions(size: Size, count: int) -> list[Question]:
    """So many different questions, spread over partners and days."""
    return [
        Question(
            str(FIRST_PARTNER + number * 13 % size.partners),
            FIRST_DAY + timedelta(days=number * 101 % (DAYS - WINDOW_DAYS)),
        )
        for number in range(count)
    ]


def fill(built: BuiltWarehouse, size: Size) -> None:
    """Rows in the real mart, with their version and a verdict for each key."""
    built.rows(
        _FILL.format(
            first=FIRST_PARTNER,
            organization=ORGANIZATION,
            day=FIRST_DAY,
            days=DAYS,
            partners=size.partners,
        )
    )
    built.rows(_LEDGERS.format(organization=ORGANIZATION))
    for table in ("reporting.daily_metrics", "metadata.parity_verdicts"):
        built.rows(f"analyze {table}")
    assert built.rows("select count(*) from reporting.daily_metrics") == [(size.rows,)]


def copy_to_sqlite(built: BuiltWarehouse, path: Path) -> None:
    """The same rows, with the index that suits the question best."""
    names = ", ".join(("organization_id", *COLUMNS))
    places = ", ".join("?" for _ in ("organization_id", *COLUMNS))
    rows = built.rows(
        "select organization_id, day::text, partner_id, spend::float8, revenue::float8,"
        " margin::float8, events, impressions, clicks from reporting.daily_metrics"
    )
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            "create table daily_metrics (organization_id text, day text, partner_id text,"
            " spend real, revenue real, margin real, events int, impressions int, clicks int)"
        )
        connection.executemany(f"insert into daily_metrics ({names}) values ({places})", rows)
        connection.execute(
            "create unique index grain on daily_metrics (organization_id, partner_id, day)"
        )
        connection.execute("analyze")
    connection.close()
