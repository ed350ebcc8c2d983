"""Closed days: nothing that arrives changes them, and retention takes their raw rows away.

Two weeks of two engines; the first is closed after it was reported.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from compared import ComparedWarehouse, Contents
from histories import FIRST_EXTRACT, Version
from loads import write_extracts
from projects import copy_project, edit

from clusters import Cluster
from runner.commands.load import report_lines
from runner.landing.ledger import LoadReport
from runner.upkeep.retention import Retired, retire
from warehouse.catalogue import _store, read_catalogue
from warehouse.database import connect

CLOSED = "2026-10-12"
IN_A, IN_B = "2026-10-07", "2026-10-14"
PERIODS = {"fact_spend": "day", "fact_events": "day", "fact_control_totals": "day",
           "daily_metrics": "day", "weekly_partner_performance": "week"}  # fmt: skip


class Books(ComparedWarehouse):
    """A warehouse whose project can be closed; every load is an hour later than the last."""

    moment = 0
    folders = 0

    def keep(self) -> None:
        """From now on `renew` gives what the warehouse holds now."""
        self.cluster.drop_database(f"{self.name}_template")
        self.cluster.run(f"alter database {self.name} rename to {self.name}_template")

    def declare(self, closed: str | None) -> None:
        """Write the day into the project and deploy its catalogue."""
        was = self.catalogue.closed_before
        line = "  closed_before:{}\n"
        edit(
            self.settings.project_dir,
            "dbt_project.yml",
            line.format(f' "{was}"' if was else ""),
            line.format(f' "{closed}"' if closed else ""),
        )
        self.catalogue = read_catalogue(self.settings.project_dir)
        assert self.catalogue.closed_before == closed
        connection = connect(self.settings, role="oversight_owner")
        with connection:
            _store(connection, self.catalogue)
        connection.close()

    def land(self, *versions: Version, totals: dict[str, str] | None = None) -> list[LoadReport]:
        """Land these versions, and control totals of spend by day for both weeks."""
        folder = Path(self._folder.name) / f"books-{self.folders}"
        self.folders += 1
        folder.mkdir()
        arrivals: list[Any] = []
        for version in versions:
            self.moment += 1
            arrivals.append((self.moment, version))
        write_extracts(folder, self.catalogue, arrivals)
        if totals is not None:
            self.moment += 1
            _write_totals(folder / "oversight", totals, self.moment)
        return [self.load(child.name, child) for child in sorted(folder.iterdir())]

    def of_closed_days(self) -> Contents:
        """What facts and marts hold of the closed week."""
        return {
            name: self.rows(
                f"select * from {'curated' if name.startswith('fact') else 'reporting'}.{name} "
                f"where {period} < '{CLOSED}' order by 1, 2, 3, 4"
            )
            for name, period in PERIODS.items()
        } | {
            "verdicts": self.rows(
                "select organization_id, mart, partner_id, period, metric, mart_value, "
                "control_value, verdict from metadata.parity_verdicts "
                f"where period < '{CLOSED}' order by 1, 2, 3, 4, 5"
            )
        }

    def spend(self) -> dict[str, str]:
        return {
            f"{day} {partner}": str(amount)
            for day, partner, amount in self.rows(
                "select day, partner_id, trim_scale(spend) from reporting.daily_metrics "
                "order by 1, 2"
            )
        }


def _write_totals(folder: Path, totals: dict[str, str], moment: int) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / f"control_totals_{moment}.csv"
    lines = ["organization_id,day,partner_id,spend_amount,revenue_amount,events,impressions,clicks"]
    lines += [f"acme,{day},p1,{amount},,,," for day, amount in totals.items()]
    path.write_text("\n".join(lines) + "\n")
    control = {
        "as_of": f"{FIRST_EXTRACT + timedelta(hours=moment):%Y-%m-%dT%H:%M:%SZ}",
        "records": len(totals),
        "window": {"from": "2026-10-05", "to": "2026-10-18"},
    }
    path.with_name(f"{path.name}.control.json").write_text(json.dumps(control))


def spend(key: str, day: str, amount: str, partner: str = "p1") -> Version:
    values = {
        "organization_id": "acme", "spend_id": key, "occurred_at": f"{day}T12:00:00Z",
        "partner_id": partner, "spend_amount": amount, "clicks": 1, "impressions": 1,
        "currency": "USD",
    }  # fmt: skip
    return Version(engine="oversight", table="spend", values=tuple(values.items()))


def snap(table: str, **values: str) -> Version:
    return Version(engine="snapchat", table=table, values=tuple(values.items()))


def report(day: str) -> Version:
    return snap("ad_hourly_report", ad_id="x", date=f"{day} 10:00:00.000", spend="7000000")


CHAIN = (
    snap("ad_account_history", id="a1", name="One"),
    snap("ad_account_history", id="a2", name="Two"),
    snap("campaign_history", id="c1", ad_account_id="a1"),
    snap("ad_squad_history", id="q", campaign_id="c1"),
    snap("ad_history", id="x", ad_squad_id="q"),
)


@pytest.fixture(scope="module")
def made(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    project = copy_project(tmp_path_factory.mktemp("project"))
    retention = "retention: {superseded: 1h, closed_days: true}"
    for engine in ("oversight", "snapchat"):
        file = f"models/staging/{engine}/_{engine}__sources.yml"
        edit(project, file, "        landing:\n", f"        landing:\n          {retention}\n")
    books = Books(server18, "books", project)
    books.settings = dataclasses.replace(books.settings, home=tmp_path_factory.mktemp("home"))
    _report_and_close(books)
    yield books
    books.close()


def _report_and_close(books: Books) -> None:
    books.renew()
    books.land(
        *CHAIN, report(IN_A), report(IN_B), spend("s1", IN_A, "10.00"), spend("s2", IN_B, "20.00"),
        spend("s3", IN_A, "1.00"), totals={IN_A: "15.00", IN_B: "20.00"},
    )  # fmt: skip
    books.land(spend("s1", IN_A, "14.00"), spend("s2", IN_B, "21.00"))
    books.refresh_models()
    assert books.spend() == {
        f"{IN_A} oversight:p1": "15", f"{IN_A} snapchat:a1": "7",
        f"{IN_B} oversight:p1": "21", f"{IN_B} snapchat:a1": "7",
    }  # fmt: skip
    books.declare(CLOSED)
    books.keep()


@pytest.fixture
def books(made: Books) -> Books:
    """The first week is reported and closed."""
    made.renew()
    return made


def reasons(books: Books) -> list[str]:
    return sorted(
        reason
        for (found,) in books.rows("select reasons from staging.rejected_rows")
        for reason in found
    )


def disturb(books: Books) -> None:
    """Everything that could change a closed day, and things of the open week."""
    books.land(
        spend("s4", IN_A, "100.00"),  # late
        spend("s3", IN_A, "2.00"),  # corrected
        spend("s2", IN_A, "30.00"),  # moved in from the open week
        spend("s1", IN_B, "40.00"),  # moved out
        spend("s5", IN_B, "5.00"),
        snap("campaign_history", id="c1", ad_account_id="a2"),  # parent of both weeks
        totals={IN_A: "99.00", IN_B: "26.00"},
    )


def age(books: Books) -> None:
    books.rows("update metadata.batches set landed_at = landed_at - interval '2 hours'")


def by_reason(done: list[Retired]) -> dict[tuple[str, str], int]:
    return {(item.table, item.reason): item.rows for item in done}


class TestClosedDays:
    def test_what_arrives_for_them_is_rejected_with_the_reason(self, books: Books) -> None:
        disturb(books)
        ends = f" is before {CLOSED}, and those days are closed"
        assert reasons(books) == [
            f'column "day": {IN_A}{ends}',
            *[f'column "occurred_at": {IN_A}{ends}'] * 3,
            f"the record stands at {IN_A}{ends}",
        ]

    def test_it_is_counted_apart_and_nothing_to_be_alarmed_by(self, books: Books) -> None:
        disturb(books)
        reports = books.land(spend("s6", IN_A, "1.00"), spend("s7", IN_B, "1.00"))
        (count,) = (count for report in reports for count in report.files)
        assert (count.read, count.accepted, count.rejected, count.closed) == (2, 1, 0, 1)
        assert all(report.is_clean for report in reports)
        said = "\n".join(report_lines(reports[0]))
        assert "2 read = 1 accepted + 0 rejected + 1 of closed days + 0 unchanged" in said
        assert "  1 records are in staging.rejected_rows" in said
        keys = [key for (key,) in books.rows("select key from metadata.alert_conditions")]
        assert [key for key in keys if key.startswith("rejected:")] == []

    @pytest.mark.parametrize("is_full", [False, True])
    def test_nothing_changes_them_and_open_days_go_on(self, books: Books, is_full: bool) -> None:
        # as rules had it that have changed since: computed anew, it would come out different
        for mart in ("daily_metrics", "weekly_partner_performance"):
            books.rows(
                f"update reporting.{mart} set margin = margin + 1 "
                f"where {PERIODS[mart]} < '{CLOSED}'"
            )
        before = books.of_closed_days()
        assert {name for name, rows in before.items() if not rows} == {"fact_events"}
        disturb(books)
        books.refresh_models(is_full=is_full)
        assert books.of_closed_days() == before
        assert books.spend() == {
            f"{IN_A} oversight:p1": "15", f"{IN_A} snapchat:a1": "7",
            f"{IN_B} oversight:p1": "26", f"{IN_B} snapchat:a2": "7",
        }  # fmt: skip
        assert books.rows(
            "select verdict from metadata.parity_verdicts "
            f"where mart = 'daily_metrics' and period = '{IN_B}' and metric = 'spend'"
        ) == [("ok",)]

    def test_a_snapshot_withdraws_nothing_there_and_what_vanished_elsewhere(
        self, books: Books
    ) -> None:
        before = books.of_closed_days()
        (report,) = books.land(totals={"2026-10-15": "1.00"})
        assert report.error is not None, "max_void_share should have stopped it"
        folder = Path(books._folder.name) / f"books-{books.folders - 1}" / "oversight"
        report = books.load("oversight", folder, allow_void=True)
        assert report.voided == 1
        books.refresh_models()
        assert books.of_closed_days() == before
        assert books.rows("select day::text from curated.fact_control_totals order by 1") == [
            (IN_A,), ("2026-10-15",),
        ]  # fmt: skip

    def test_a_raw_table_that_is_retired_empty_is_no_fault(self, books: Books) -> None:
        check = "assert_facts_hold_what_raw_tables_hold"
        books.rows(
            "alter table staging.oversight__spend disable trigger user; "
            "delete from staging.oversight__spend; "
            "alter table staging.oversight__spend enable trigger user"
        )
        lost = books.dbt_run("test", "--select", check)
        assert not lost.success, "an empty raw table that nobody retired is a fault"
        books.rows(
            "insert into metadata.retired (table_name, key_column, reason, before, rows, file, "
            "bytes, sha256, deleted_at) values ('staging.oversight__spend', 'row_id', "
            f"'closed_day', '{CLOSED}', 1, 'f', 0, '', now())"
        )
        result = books.dbt_run("test", "--select", check)
        assert result.success, result.output

    def test_the_tests_of_the_project_hold(self, books: Books) -> None:
        disturb(books)
        books.refresh_models()
        age(books)
        retire(books.settings)
        for is_full in (False, True):
            books.refresh_models(is_full=is_full)
            result = books.dbt_run("test", "--select", "test_type:singular", "daily_metrics")
            assert result.success, result.output


class TestRetiring:
    def test_raw_rows_go_and_facts_and_marts_stay_through_a_full_refresh(
        self, books: Books
    ) -> None:
        disturb(books)
        books.refresh_models()
        age(books)
        before = books.contents()
        done = retire(books.settings)
        assert by_reason(done) == {
            ("staging.oversight__control_totals", "closed_day"): 1,
            ("staging.oversight__control_totals", "superseded"): 1,
            ("staging.oversight__spend", "closed_day"): 3,
            ("staging.oversight__spend", "superseded"): 1,
            ("staging.snapchat__ad_hourly_report", "closed_day"): 1,
            ("staging.snapchat__campaign_history", "superseded"): 1,
        }
        books.refresh_models()
        assert books.contents() == before
        books.refresh_models(is_full=True)
        assert books.contents() == before
        assert retire(books.settings) == []

    def test_loads_after_it_change_open_days_as_a_full_rebuild_would(self, books: Books) -> None:
        age(books)
        retire(books.settings)
        before = books.of_closed_days()
        disturb(books)
        books.land(spend("s2", "2026-10-16", "22.00"), spend("s6", IN_B, "6.00", "p2"))
        books.refresh_models()
        incremental = books.contents()
        assert books.of_closed_days() == before
        books.refresh_models(is_full=True)
        assert books.contents() == incremental

    def test_what_is_not_in_the_facts_yet_stays(self, books: Books) -> None:
        age(books)
        books.rows(
            "delete from metadata.applied_batches where batch_id = 3 and model <> 'fact_spend'"
        )
        done = by_reason(retire(books.settings, dry_run=True))
        assert done["staging.oversight__spend", "closed_day"] == 1
        assert ("staging.oversight__spend", "superseded") in done
        books.rows("delete from metadata.applied_batches")
        assert retire(books.settings) == []

    def test_days_stay_closed_when_the_declaration_is_taken_back(self, books: Books) -> None:
        age(books)
        retire(books.settings)
        before = books.of_closed_days()
        books.declare(None)
        disturb(books)
        assert f'column "occurred_at": {IN_A} is before {CLOSED}' in "".join(reasons(books))
        books.refresh_models(is_full=True)
        assert books.of_closed_days() == before
