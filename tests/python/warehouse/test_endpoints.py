"""Endpoints in declarations: what they become, and what each mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import copy_project, edit

from clusters import PROJECT_DIR
from warehouse.catalogue import Catalogue, CatalogueError, read_catalogue
from warehouse.declared_endpoints import extract_name
from warehouse.endpoints import AskedWindow, Place, Since

NATIVE = "models/staging/oversight/_oversight__sources.yml"
REDDIT = "models/staging/reddit_ads/_reddit_ads__sources.yml"
EVENTS = "path: /v1/events\n"
TOTALS = "path: /v1/control_totals\n"
DEEP = "                "


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue(PROJECT_DIR)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path / "project")


def test_the_endpoints_of_the_native_engine(catalogue: Catalogue) -> None:
    assert catalogue.pulls() == {"oversight": "*/5 * * * *"}
    tables = {table.name: table.endpoint for table in catalogue.engine_tables("oversight")}
    events, totals, partners = (tables[name] for name in ("events", "control_totals", "partners"))
    assert events is not None
    assert totals is not None
    assert partners is not None
    assert events.url_variable == "OVERSIGHT_NATIVE_URL"
    assert (events.header, events.scheme) == ("Authorization", "Bearer")
    assert events.since == Since(parameter="since", column="updated_at", overlap_seconds=3600)
    assert events.window == AskedWindow(from_parameter="from", to_parameter="to")
    assert events.paging is not None
    assert events.paging.next == Place(kind="body", name="next_cursor")
    assert partners.window is None
    assert totals.since is None
    assert totals.answered is not None
    assert totals.answered.from_day == Place(kind="body", name="window.from")
    assert Catalogue.from_json(catalogue.to_json()) == catalogue


def test_what_a_table_says_goes_before_what_its_source_says(project: Path) -> None:
    edit(project, NATIVE, EVENTS, EVENTS + DEEP + "rows: data.events\n" + DEEP + "paging: {}\n")
    edit(project, NATIVE, "paging: {}", "paging: {page: {parameter: n, first: 0}}")
    table = read_catalogue(project).source("oversight", "events").endpoint
    assert table is not None
    assert table.paging is not None
    assert (table.rows, table.paging.kind, table.paging.first) == ("data.events", "page", 0)


MISTAKES = {
    "a misspelt key": ("endpoint:\n            url:", "endpoint:\n            ulr:", "'url'"),
    "no address": ("            url: OVERSIGHT_NATIVE_URL\n", "", "needs 'url' in the endpoint"),
    "no cadence": ('            cadence: "*/5 * * * *"\n', "", "needs 'cadence' in the endpoint"),
    "a wrong cadence": ('"*/5 * * * *"', '"*/5 * * *"', "cadence: '*/5 * * *' is no cron line"),
    "a numbered weekday": ('"*/5 * * * *"', '"0 0 * * 1"', "write weekdays as mon to sun"),
    "a variable in lower case": ("url: OVERSIGHT_NATIVE_URL", "url: engine", "has not the form"),
    "a path of the source": (
        "            format: json\n", "            path: /v1\n", "path: belongs to the endpoint",
    ),
    "a cadence of a table": (
        EVENTS, EVENTS + DEEP + 'cadence: "0 * * * *"\n',
        "tables[events].config.meta.landing.endpoint.cadence: belongs to the endpoint of the",
    ),
    "no path": (DEEP + EVENTS, DEEP + "max_pages: 7\n", "lacks the key 'path'"),
    "a path without its slash": ("/v1/events", "v1/events", "has not the form"),
    "two ways of paging": (
        "paging:\n", "paging:\n              page: {parameter: page}\n",
        "paging: needs either 'cursor' or 'page'",
    ),
    "a cursor in the body of lines": (
        "format: json", "format: jsonl", "jsonl can say it in a header only",
    ),
    "rows of lines": ("format: json", "format: csv", "csv has no keys that lead to rows"),
    "since a column that is not there": (
        "column: updated_at, overlap", "column: updated, overlap",
        "since: 'updated' must be a column of type date or timestamptz",
    ),
    "since a column of another type": (
        "column: updated_at, overlap", "column: partner_id, overlap", "of type date or timestamptz",
    ),
    "since without an overlap": (", overlap: 1h}", "}", "lacks the key 'overlap'"),
    "a snapshot since something": (
        TOTALS, TOTALS + DEEP + "since: {parameter: since, column: day, overlap: 1d}\n",
        "since: a snapshot holds all records of its window",
    ),
    "a snapshot as of nobody knows when": (
        "answered: {as_of: {body: as_of}, from: {body: window.from}, to: {body: window.to}}",
        "max_pages: 7",
        "`as_of: control_file` needs `answered: {as_of: ...}`",
    ),
    "a snapshot of nobody knows which days": (
        "{as_of: {body: as_of}, from: {body: window.from}, to: {body: window.to}}",
        "{as_of: {body: as_of}}",
        "`window: control_file` needs `answered: {from: ...}`",
    ),
    "a snapshot until something": (
        TOTALS, TOTALS + DEEP + "until: until\n", "until: a snapshot holds all records",
    ),
    "until of the source": (
        "            format: json\n", "            until: until\n", "until: belongs to the",
    ),
    "half a window": (", to: {body: window.to}", "", "lacks one of"),
    "a window of an append table": (
        EVENTS, EVENTS + DEEP + "answered: {as_of: {body: as_of}}\n",
        "answered: belongs to a snapshot",
    ),
    "files that take no JSON Lines": (
        '"events*.csv", "events*.jsonl", "events*.parquet"', '"events*.csv"',
        "no pattern of `files` takes a .jsonl file",
    ),
    "two places in one": ("{body: next_cursor}", "{body: a, header: B}", "does not fit"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_its_file_and_key(
    project: Path, old: str, new: str, said: str
) -> None:
    edit(project, NATIVE, old, new)
    with pytest.raises(CatalogueError) as caught:
        read_catalogue(project)
    assert said in str(caught.value)
    assert f"{NATIVE}:" in str(caught.value)


def test_until_needs_a_snapshot_that_says_when(project: Path) -> None:
    text = (project / NATIVE).read_text()
    start = text.index("              endpoint:\n" + DEEP + TOTALS)
    end = text.index("        columns:\n", start)
    edit(project, NATIVE, text[start:end], "")
    with pytest.raises(CatalogueError, match="until: needs a snapshot with an endpoint"):
        read_catalogue(project)


def test_pages_of_csv_need_a_file_name_each(project: Path) -> None:
    edit(project, NATIVE, "            rows: rows\n", "")
    edit(project, NATIVE, '"partners*.csv"', '"partners.csv"')
    path = "path: /v1/partners\n"
    edit(project, NATIVE, path, path + DEEP + "format: csv\n")
    with pytest.raises(CatalogueError, match=r"takes a \.csv file for each page"):
        read_catalogue(project)


def test_an_endpoint_that_no_table_uses_is_a_mistake(project: Path) -> None:
    edit(
        project,
        REDDIT,
        "        landing:\n",
        "        landing:\n          endpoint: {url: X_URL}\n",
    )
    with pytest.raises(CatalogueError, match="no table of the source has an endpoint with a path"):
        read_catalogue(project)


@pytest.mark.parametrize(
    ("patterns", "kind", "expected"),
    [
        (["events*.csv", "events*.jsonl"], "json", "events_pull.jsonl"),
        (["events*.csv", "events*.jsonl"], "csv", "events_pull.csv"),
        (["events*"], "jsonl", "events_pull.jsonl"),
        (["*_day_*.csv"], "csv", "_pull_day__pull.csv"),
        (["events.jsonl"], "json", "events.jsonl"),
        (["events[0-9].jsonl", "events*.parquet"], "json", None),
    ],
)
def test_a_file_name_that_the_table_takes(
    patterns: list[str], kind: str, expected: str | None
) -> None:
    assert extract_name(patterns, kind) == expected
