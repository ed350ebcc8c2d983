"""Pulling from a reporting engine over a real socket: what comes, since when, and how asked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from engines import QUICK, TABLES, TOKEN, ServedEngine, newest, query, served, specification
from scripted import Part, answer, scripted

from clusters import PROJECT_DIR, Cluster
from runner.cli import main
from runner.landing.ledger import LoadReport
from runner.landing.load import load_engine
from runner.pull.errors import PullError
from runner.pull.pull import pull, scheduled_pulls
from runner.runs.log import RunCancelled, logged_run
from runner.simulation.simulate import simulate
from warehouse.catalogue import read_catalogue
from warehouse.declared import Catalogue
from warehouse.endpoints import Paging, Place
from warehouse.settings import Settings

WATERMARKS = "select source_table, through, batch_id from metadata.pull_watermarks order by 1"
LAST_WEEK = (date(2026, 11, 2), date(2026, 11, 8))


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue(PROJECT_DIR)


@pytest.fixture(scope="module")
def engine() -> Iterator[ServedEngine]:
    with served(specification()) as found:
        yield found


@pytest.fixture
def home(warehouse: Settings, tmp_path: Path) -> Settings:
    return replace(warehouse, home=tmp_path / "home")


def changed(catalogue: Catalogue, tables: tuple[str, ...] = TABLES, **changes: Any) -> Catalogue:
    """The catalogue with other endpoints for tables of the native engine."""
    sources = tuple(
        replace(table, endpoint=replace(table.endpoint, **changes))
        if table.endpoint and table.name in tables
        else table
        for table in catalogue.sources
    )
    return replace(catalogue, sources=sources)


def pulled(
    settings: Settings, catalogue: Catalogue, engine: ServedEngine, **options: Any
) -> LoadReport:
    return pull(settings, catalogue, "oversight", environ=engine.environ, patience=QUICK, **options)


def read(report: LoadReport) -> dict[str, int]:
    """Records that came, by table."""
    return {count.source_table: count.read for count in report.files}


def through(settings: Settings) -> dict[str, datetime]:
    return {name: moment for name, moment, _ in query(settings, WATERMARKS)}


def test_a_pull_brings_what_a_load_of_the_same_engine_does(
    home: Settings, server18: Cluster, catalogue: Catalogue, engine: ServedEngine, tmp_path: Path
) -> None:
    report = pulled(home, catalogue, engine)

    simulate(specification(path=tmp_path / "extracts"))
    loaded = server18.migrated_database()
    load_engine(loaded, catalogue, "oversight", tmp_path / "extracts" / "oversight")
    assert newest(home) == newest(loaded)
    assert sum(read(report).values()) > 1500
    assert query(home, "select path, status from metadata.batches") == [
        (engine.server.url, "landed")
    ]
    assert list((home.home / "pulls").iterdir()) == []
    server18.drop_database(Cluster.name_of(loaded))


def test_the_next_pull_asks_from_the_watermark_less_the_overlap(
    home: Settings, catalogue: Catalogue, engine: ServedEngine
) -> None:
    first = pulled(home, catalogue, engine)
    newest_event = query(home, "select max(updated_at) from staging.oversight__events")[0][0]
    assert through(home)["events"] == newest_event
    assert set(through(home)) == set(TABLES) - {"control_totals"}

    second = pulled(home, catalogue, engine)

    since = newest_event - timedelta(hours=1)
    within = query(
        home, f"select count(*) from staging.oversight__events where updated_at >= '{since}'"
    )[0][0]
    assert 0 < within < 10
    assert read(second)["events"] == within
    assert read(second)["control_totals"] == read(first)["control_totals"]
    assert sum(count.accepted for count in second.files) == 0
    assert through(home)["events"] == newest_event


@pytest.mark.parametrize("scenario", ["moved", "withdrawn", "drift"])
def test_pulls_while_time_goes_by_end_where_one_pull_at_the_end_does(
    home: Settings, server18: Cluster, catalogue: Catalogue, tmp_path: Path, scenario: str
) -> None:
    spec = specification(scenario=scenario, rows=600)
    with served(spec, start=datetime(2026, 10, 25, 12, tzinfo=timezone.utc)) as engine:
        seen = []
        for moment in (
            datetime(2026, 10, 25, 12, tzinfo=timezone.utc),
            datetime(2026, 11, 3, 6, 30, tzinfo=timezone.utc),
            *(datetime(2026, 11, 11, hour, tzinfo=timezone.utc) for hour in (1, 2, 3)),
        ):
            engine.turn_clock(moment)
            pulled(home, catalogue, engine)
            seen.append(query(home, "select count(*) from staging.oversight__events")[0][0])
        whole = replace(server18.migrated_database(), home=tmp_path / "other")
        pulled(whole, catalogue, engine)
    assert newest(home) == newest(whole)
    assert seen[0] < seen[1] < seen[2]
    assert (seen[3] > seen[2]) == (scenario != "drift")
    assert (seen[4] > seen[3]) == (scenario == "withdrawn")
    server18.drop_database(Cluster.name_of(whole))


class TestLateRecords:
    """The engine shows records of past days only after it has shown newer ones."""

    @pytest.fixture
    def late(self) -> Iterator[ServedEngine]:
        before = datetime(2026, 11, 11, 1, tzinfo=timezone.utc)
        with served(specification(scenario="late", share=0.2), start=before) as found:
            yield found

    def _pull_twice(self, home: Settings, catalogue: Catalogue, late: ServedEngine) -> list[str]:
        """Records that are missing after both pulls."""
        pulled(home, catalogue, late)
        assert through(home)["events"] > datetime(2026, 11, 10, 12, tzinfo=timezone.utc)
        before = {row[1] for row in newest(home)["events"]}
        late.turn_clock(late.engine.end())
        pulled(home, catalogue, late)
        after = {row[1] for row in newest(home)["events"]}
        shown, _ = late.engine.rows("events", _everything(late))
        everything = {f"{row['organization_id']}|{row['event_id']}" for row in shown}
        assert before < everything
        assert after <= everything
        return sorted(everything - after)

    def test_within_the_overlap_none_is_missed(
        self, home: Settings, catalogue: Catalogue, late: ServedEngine
    ) -> None:
        since = catalogue.source("oversight", "events").endpoint
        assert since is not None
        assert since.since is not None
        wide = replace(since.since, overlap_seconds=30 * 86400)
        assert self._pull_twice(home, changed(catalogue, ("events",), since=wide), late) == []

    def test_what_comes_later_is_brought_by_a_backfill(
        self, home: Settings, catalogue: Catalogue, late: ServedEngine
    ) -> None:
        missed = self._pull_twice(home, catalogue, late)
        assert missed
        report = pulled(home, catalogue, late, window=(date(2026, 10, 20), date(2026, 11, 10)))
        assert report.is_backfill
        assert {row[1] for row in newest(home)["events"]} >= set(missed)


def _everything(engine: ServedEngine) -> Any:
    from runner.simulation.engine import Asked

    return Asked(moment=engine.clock.now(), limit=10_000)


def test_another_address_is_read_from_the_start(
    home: Settings, catalogue: Catalogue, engine: ServedEngine
) -> None:
    pulled(home, catalogue, engine)
    newest_here = through(home)["events"]
    spec = specification(last_day=date(2026, 10, 25), rows=300)
    with served(spec) as older, served(spec) as same:
        first = pulled(home, catalogue, older)
        shown, _ = older.engine.rows("events", _everything(older))
        assert read(first)["events"] == len(shown) > 100
        assert through(home)["events"] < newest_here
        assert query(home, "select distinct origin from metadata.pull_watermarks") == [
            (older.server.url,)
        ]
        assert read(pulled(home, catalogue, older)).get("events", 0) < 10
        again = pulled(home, catalogue, same)
        assert read(again) == read(first)
        assert sum(count.accepted for count in again.files) == 0


def test_all_is_asked_for_without_the_watermarks_and_lands_what_is_missing(
    home: Settings, catalogue: Catalogue, engine: ServedEngine
) -> None:
    first = pulled(home, catalogue, engine)
    before = through(home)
    whole = pulled(home, catalogue, engine, is_whole=True)
    assert read(whole) == read(first)
    assert sum(count.accepted for count in whole.files) == 0
    assert through(home) == before


def test_a_window_asks_for_its_days_only_and_leaves_the_watermark(
    home: Settings, catalogue: Catalogue, engine: ServedEngine
) -> None:
    report = pulled(home, catalogue, engine, window=LAST_WEEK)
    assert set(read(report)) == {"control_totals", "events", "spend"}
    days = query(
        home,
        "select min(occurred_at)::date, max(occurred_at)::date from staging.oversight__events "
        "union all select min(day), max(day) from staging.oversight__control_totals "
        "union all select window_from, window_to from metadata.extract_windows",
    )
    assert set(days) == {LAST_WEEK}
    assert query(home, WATERMARKS) == []
    assert query(home, "select distinct is_backfill from metadata.batch_tables") == [(True,)]

    pulled(home, catalogue, engine)
    before = query(home, WATERMARKS)
    pulled(home, catalogue, engine, window=LAST_WEEK)
    assert query(home, WATERMARKS) == before


def test_every_way_of_paging_and_every_format_brings_the_same(
    home: Settings, server18: Cluster, catalogue: Catalogue, engine: ServedEngine, tmp_path: Path
) -> None:
    pulled(home, catalogue, engine)
    expected = newest(home)
    numbered = Paging(kind="page", parameter="page", size_parameter="limit", size=100)
    by_header = Paging(
        kind="cursor",
        parameter="cursor",
        next=Place(kind="header", name="X-Next-Cursor"),
        size_parameter="limit",
        size=100,
    )
    for number, (suffix, kind, paging) in enumerate(
        [("", "json", numbered), (".jsonl", "jsonl", by_header), (".csv", "csv", by_header)]
    ):
        other = changed(catalogue, paging=paging, format=kind, rows="rows" if not suffix else None)
        for table in TABLES:
            other = changed(other, (table,), path=f"/v1/{table}{suffix}")
        if suffix:
            answered = catalogue.source("oversight", "control_totals").endpoint
            assert answered is not None
            assert answered.answered is not None
            said = replace(
                answered.answered,
                as_of=Place(kind="header", name="X-As-Of"),
                from_day=Place(kind="header", name="X-Window-From"),
                to_day=Place(kind="header", name="X-Window-To"),
            )
            other = changed(other, ("control_totals",), answered=said)
        again = replace(server18.migrated_database(), home=tmp_path / str(number))
        report = pulled(again, other, engine)
        assert report.is_clean, report
        assert newest(again) == expected, (suffix, kind)
        server18.drop_database(Cluster.name_of(again))


def test_an_engine_that_has_nothing_leaves_no_batch(home: Settings, catalogue: Catalogue) -> None:
    with served(specification(), start=datetime(2026, 1, 1, tzinfo=timezone.utc)) as engine:
        report = pulled(home, catalogue, engine)
    assert report.batch_id is None
    assert report.notes == ["control_totals: the engine gave no records, none is withdrawn"]
    assert query(home, "select 1 from metadata.batches") == []
    assert query(home, WATERMARKS) == []


def test_what_does_not_land_is_an_error_and_the_watermark_stays(
    home: Settings, catalogue: Catalogue
) -> None:
    row = {"organization_id": "a", "event_id": "e1", "updated_at": "2026-11-01T00:00:00Z"}
    body = {"rows": [row], "next_cursor": None, "as_of": "2026-11-01T00:00:00Z"}
    with scripted([answer(json.dumps(body | {"window": {}}).encode())]) as server:
        environ = {"OVERSIGHT_NATIVE_URL": server.url, "OVERSIGHT_NATIVE_TOKEN": TOKEN}
        with pytest.raises(PullError) as caught:
            pull(home, catalogue, "oversight", environ=environ, patience=QUICK)
    assert "batch 1 is rejected" in str(caught.value)
    assert "it lacks the declared columns" in str(caught.value)
    assert query(home, WATERMARKS) == []
    assert query(home, "select status from metadata.batches") == [("rejected",)]


def test_neither_a_rejected_record_nor_one_of_the_future_hides_what_comes(
    home: Settings, catalogue: Catalogue
) -> None:
    partner = {"organization_id": "a", "name": "A", "region": None, "status": None}
    moments = ["2026-11-01T00:00:00Z", "2099-01-01T00:00:00Z", "never"]
    rows = [
        partner | {"partner_id": f"p{number}", "updated_at": moment}
        for number, moment in enumerate(moments)
    ]
    only = replace(
        catalogue,
        sources=tuple(table for table in catalogue.sources if table.name == "partners"),
    )

    answers = [
        answer(json.dumps({"rows": some, "next_cursor": None}).encode())
        for some in ([rows[0], rows[2]], rows, [rows[0]])
    ]
    with scripted(answers) as server:
        environ = {"OVERSIGHT_NATIVE_URL": server.url, "OVERSIGHT_NATIVE_TOKEN": TOKEN}

        def landed() -> datetime:
            pull(home, only, "oversight", environ=environ, patience=QUICK)
            return through(home)["partners"]

        assert landed() == datetime(2026, 11, 1, tzinfo=timezone.utc)
        before = datetime.now(timezone.utc)
        assert before - timedelta(minutes=1) < landed() <= datetime.now(timezone.utc)
        assert landed() >= before
    # The one of the first pull; the engine showed it again in the second.
    assert query(home, "select batch_id from staging.rejected_rows") == [(1,)]
    assert query(
        home, "select report -> 'notes' ->> 0 from metadata.batches where batch_id = 2"
    ) == [("partners: 1 of the records that were not landed are kept already",)]


class TestVariables:
    def test_without_its_address_an_engine_is_no_job(self, catalogue: Catalogue) -> None:
        assert scheduled_pulls({}, catalogue) == {}
        environ = {"OVERSIGHT_NATIVE_URL": "http://127.0.0.1:1"}
        assert scheduled_pulls(environ, catalogue) == {"oversight": "*/5 * * * *"}

    @pytest.mark.parametrize(
        ("environ", "said"),
        [
            ({}, "set OVERSIGHT_NATIVE_URL"),
            ({"OVERSIGHT_NATIVE_URL": "engine"}, "OVERSIGHT_NATIVE_URL is no address"),
            ({"OVERSIGHT_NATIVE_URL": "http://h?key=1"}, "OVERSIGHT_NATIVE_URL is no address"),
            (
                {"OVERSIGHT_NATIVE_URL": "http://me:hidden@h"},
                "OVERSIGHT_NATIVE_URL holds a user or password",
            ),
            (
                {"OVERSIGHT_NATIVE_URL": "http://h"},
                "set OVERSIGHT_NATIVE_TOKEN, or OVERSIGHT_NATIVE_TOKEN_FILE",
            ),
            (
                {"OVERSIGHT_NATIVE_URL": "http://h", "OVERSIGHT_NATIVE_TOKEN": "hidden\nX: y"},
                "OVERSIGHT_NATIVE_TOKEN holds what a header can't carry",
            ),
        ],
    )
    def test_a_missing_or_wrong_one_is_named(
        self, home: Settings, catalogue: Catalogue, environ: dict[str, str], said: str
    ) -> None:
        with pytest.raises(PullError) as caught:
            pull(home, catalogue, "oversight", environ=environ)
        assert said in str(caught.value)
        assert "hidden" not in str(caught.value)

    def test_the_secret_may_be_in_a_file(
        self, home: Settings, catalogue: Catalogue, engine: ServedEngine, tmp_path: Path
    ) -> None:
        (tmp_path / "token").write_text(TOKEN + "\n")
        environ = {
            "OVERSIGHT_NATIVE_URL": engine.server.url + "/",
            "OVERSIGHT_NATIVE_TOKEN_FILE": str(tmp_path / "token"),
        }
        assert pull(home, catalogue, "oversight", environ=environ).is_clean

    def test_engines_that_can_t_be_asked_are_named(
        self, home: Settings, catalogue: Catalogue
    ) -> None:
        with pytest.raises(PullError, match="engine nobody is not declared"):
            pull(home, catalogue, "nobody", environ={})
        with pytest.raises(PullError, match="reddit_ads declares no table with an endpoint"):
            pull(home, catalogue, "reddit_ads", environ={})


class TestCommand:
    @pytest.fixture(autouse=True)
    def _environment(
        self, home: Settings, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = catalogue.to_json().replace("'", "''")
        query(
            home,
            "insert into metadata.catalogue (content_hash, content) "
            f"values ('{catalogue.content_hash}', '{content}')",
        )
        monkeypatch.setenv("OVERSIGHT_DATABASE_URL", str(home.database_url))
        monkeypatch.setenv("OVERSIGHT_HOME", str(home.home))

    def test_a_pull_says_what_came(
        self, engine: ServedEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in engine.environ.items():
            monkeypatch.setenv(name, value)
        done = CliRunner().invoke(main, ["pull"])
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines()[0] == "oversight: batch 1"
        assert "  partners: 16 records in 1 page\n" in done.stderr
        again = CliRunner().invoke(main, ["pull", "oversight", "--json"])
        (report,) = json.loads(again.stdout)["engines"]
        assert (report["batch_id"], report["status"]) == (2, "landed")
        assert TOKEN not in done.output + again.output

    def test_without_an_address_it_says_which_variable(self) -> None:
        done = CliRunner().invoke(main, ["pull"])
        assert done.exit_code == 1
        assert "set OVERSIGHT_NATIVE_URL" in done.stderr

    def test_a_wrong_secret_is_an_error_that_does_not_show_it(
        self, engine: ServedEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OVERSIGHT_NATIVE_URL", engine.server.url)
        monkeypatch.setenv("OVERSIGHT_NATIVE_TOKEN", "a-wrong-secret")
        done = CliRunner().invoke(main, ["pull", "--json"])
        assert done.exit_code == 1
        assert "check OVERSIGHT_NATIVE_TOKEN" in json.loads(done.stdout)["error"]
        assert "a-wrong-secret" not in done.output


class TestRun:
    def test_a_pull_is_a_run_that_counts_what_landed(
        self, home: Settings, catalogue: Catalogue, engine: ServedEngine
    ) -> None:
        report = pulled(home, catalogue, engine)
        runs = query(home, "select job_name, status, rows_affected from metadata.refresh_log")
        accepted = sum(count.accepted for count in report.files)
        assert runs == [("pull oversight", "success", accepted)]

    def test_its_failure_is_in_the_log_without_the_secret(
        self, home: Settings, catalogue: Catalogue
    ) -> None:
        with scripted([answer(TOKEN.encode(), "404 Oh")]) as server:
            environ = {"OVERSIGHT_NATIVE_URL": server.url, "OVERSIGHT_NATIVE_TOKEN": TOKEN}
            with pytest.raises(PullError):
                pull(home, catalogue, "oversight", environ=environ, patience=QUICK)
        assert f"Bearer {TOKEN}" in server.requests[0]
        ((status, error),) = query(home, "select status, error_message from metadata.refresh_log")
        assert status == "failed"
        assert "status 404: '***'" in error

    def test_cancelled_it_ends_in_the_middle_of_a_wait(
        self, home: Settings, catalogue: Catalogue
    ) -> None:
        def cancel(_request: str) -> list[Part]:
            query(home, "update metadata.refresh_log set cancel_requested_at = now()")
            return answer(b"no", "429 Oh", Retry_After="60")

        with scripted(cancel) as server, pytest.raises(RunCancelled):
            environ = {"OVERSIGHT_NATIVE_URL": server.url, "OVERSIGHT_NATIVE_TOKEN": TOKEN}
            began = time.monotonic()
            pull(home, catalogue, "oversight", environ=environ)
        assert time.monotonic() - began < 30
        assert len(server.requests) == 1
        assert query(home, "select status from metadata.refresh_log") == [("cancelled",)]
        assert query(home, "select 1 from metadata.batches") == []

    def test_two_at_a_time_are_one(
        self, home: Settings, catalogue: Catalogue, engine: ServedEngine
    ) -> None:
        with (
            logged_run(home, "pull oversight"),
            pytest.raises(PullError, match="is being pulled already"),
        ):
            pulled(home, catalogue, engine)
        assert query(home, "select 1 from metadata.batches") == []


@pytest.mark.parametrize("is_bounded", [True, False])
def test_one_pull_of_a_busy_engine_is_of_one_moment(
    home: Settings, catalogue: Catalogue, is_bounded: bool
) -> None:
    """Each second of ours is most of a day of the engine: between two requests much happens."""
    start = datetime(2026, 10, 25, tzinfo=timezone.utc)
    other = catalogue if is_bounded else changed(catalogue, until=None)
    with served(specification(rows=5000), start=start, speed=60_000) as engine:
        pulled(home, other, engine)
        assert engine.clock.now() < engine.engine.end()
    counted, controlled = (
        query(home, f"select sum({amount}) from staging.oversight__{table}")[0][0]
        for amount, table in (("clicks", "spend"), ("clicks", "control_totals"))
    )
    assert 0 < controlled <= counted
    assert (counted == controlled) is is_bounded
