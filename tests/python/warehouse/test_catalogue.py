"""The catalogue: what a declaration may say, and what each mistake is answered with."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from projects import copy_project, edit

from clusters import PROJECT_DIR
from warehouse import database, dbt
from warehouse.catalogue import (
    AsOf,
    Catalogue,
    CatalogueError,
    ExtractWindow,
    MartWindow,
    deploy,
    deployed,
    read_catalogue,
)
from warehouse.declarations import check_keys, generic_tests
from warehouse.settings import Settings
from warehouse.yaml_files import read_yaml

REDDIT = "models/staging/reddit_ads/_reddit_ads__sources.yml"
REDDIT_MODELS = "models/staging/reddit_ads/_reddit_ads__models.yml"
SNAPCHAT = "models/staging/snapchat/_snapchat__sources.yml"
NATIVE = "models/staging/oversight/_oversight__sources.yml"
MARTS = "models/reporting/_reporting__models.yml"
ROLES = "seeds/roles.csv"
CURATED = "models/curated/_curated__models.yml"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue(PROJECT_DIR)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path / "project")


def _error(project: Path) -> str:
    with pytest.raises(CatalogueError) as caught:
        read_catalogue(project)
    return str(caught.value)


MISSPELT = {
    "top level": (REDDIT, "sources:\n", "surces:\n", "surces", "'sources'"),
    "source": (REDDIT, "    schema: staging", "    shema: staging", "shema", "'schema'"),
    "source config": (REDDIT, "loaded_at_query:", "loaded_at_qery:", "qery", "'loaded_at_query'"),
    "source freshness": (REDDIT, "warn_after:", "warn_aftr:", "warn_aftr", "'warn_after'"),
    "source freshness rule": (REDDIT, "{count: 36,", "{cuont: 36,", "cuont", "'count'"),
    "source meta": (REDDIT, "        landing:\n", "        lnding:\n", "lnding", "'landing'"),
    "source landing": (REDDIT, "zone: UTC", "zoen: UTC", "zoen", "'zone'"),
    "source landing, deeper": (REDDIT, "{value: default}", "{valeu: default}", "valeu", "'value'"),
    "table": (REDDIT, "        identifier:", "        identifer:", "identifer", "'identifier'"),
    "table config": (REDDIT, "          meta:\n", "          mata:\n", "config.mata", "'meta'"),
    "table landing": (REDDIT, "mode: append", "mdoe: append", "landing.mdoe", "'mode'"),
    "table landing value": (REDDIT, "mode: append", "mode: apend", '"apend"', "'append'"),
    "table landing column": (REDDIT, "{column: _fiv", "{colum: _fiv", "colum", "'column'"),
    "column": (REDDIT, "data_type: text", "data_typ: text", "columns[id].data_typ", "'data_type'"),
    "column config": (REDDIT, "config: {meta: {scope", "conifg: {meta: {scope", "", "'config'"),
    "column meta": (REDDIT, "{meta: {scope", "{mata: {scope", "config.mata", "'meta'"),
    "column meta without config": (
        REDDIT,
        "config: {meta: {scope: partner}}",
        "meta: {scope: partner}",
        "columns[id].meta",
        "'meta' under 'config'",
    ),
    "column meta key": (REDDIT, "volatile: true", "volatil: true", "volatil", "'volatile'"),
    "model": (REDDIT_MODELS, "    columns:", "    colums:", "colums", "'columns'"),
    "model config": (REDDIT_MODELS, "config: {meta", "config: {mta", "config.mta", "'meta'"),
    "model meta": (REDDIT_MODELS, "meta: {feed", "meta: {fed", "meta.fed", "'feed'"),
    "feed": (REDDIT_MODELS, "records_from:", "record_from:", "record_from", "'records_from'"),
    "model column": (REDDIT_MODELS, "description: State", "descripton: State", "", "'description'"),
    "fact": (CURATED, "fact: {feed:", "fact: {fed:", "fact.fed", "'feed'"),
    "mart meta": (MARTS, "        mart:\n", "        mrat:\n", "meta.mrat", "'mart'"),
    "mart": (MARTS, "freshness_sla:", "freshnes_sla:", "mart.freshnes_sla", "'freshness_sla'"),
    "mart window": (MARTS, "max: 92d", "mx: 92d", "window.mx", "'max'"),
    "mart reader": (MARTS, "[reader, agent", "[reader, agnt", "readers[1]", "'agent'"),
    "mart parity": (MARTS, "parity: flag", "parity: flg", '"flg"', "'flag'"),
    "mart column meta": (MARTS, "{control: spend", "{contrl: spend", "contrl", "'control'"),
    "mart column control": (
        MARTS,
        "control: spend_amount",
        "control: spend_amout",
        "",
        "'spend_am",
    ),
    "test": (REDDIT_MODELS, "[unique, not_null]", "[uniqe, not_null]", "'uniqe'", "'unique'"),
    "test argument": (MARTS, "{expression: margin", "{expresion: margin", "", "'expression'"),
    "test key": (MARTS, "{arguments: {columns", "{argument: {columns", "", "'arguments'"),
    "project": ("dbt_project.yml", "macro-paths:", "macro-path:", "macro-path", "'macro-paths'"),
}


@pytest.mark.parametrize("case", MISSPELT.values(), ids=MISSPELT.keys())
def test_a_misspelt_key_is_an_error_that_says_where_and_what_was_meant(
    project: Path, case: tuple[str, str, str, str, str]
) -> None:
    file, old, new, path, suggestion = case
    edit(project, file, old, new)
    message = _error(project)
    line = (project / file).read_text().split(new)[0].count("\n") + 1
    assert f"  {file}:" in message
    assert path in message
    assert f"did you mean {suggestion}" in message
    named = [int(text.split(":")[1]) for text in message.splitlines()[1:]]
    assert any(abs(number - line) <= 2 for number in named), message


WRONG = {
    "a key given twice": (
        REDDIT,
        "              mode: append\n",
        "              mode: append\n              mode: snapshot\n",
        "landing.mode: is given twice",
    ),
    "no YAML": (REDDIT, "sources:\n", "sources: [\n", "is not valid YAML"),
    "wrong identifier": (
        REDDIT,
        "identifier: reddit_ads__account\n",
        "identifier: reddit__account\n",
        "tables[account].identifier: must be 'reddit_ads__account'",
    ),
    "wrong schema": (REDDIT, "    schema: staging", "    schema: raw", "the schema 'staging'"),
    "key without column": (REDDIT, "key: [id]", "key: [idd]", "key: there is no column 'idd'"),
    "version without column": (
        NATIVE,
        "version: {column: updated_at}",
        "version: {column: changed_at}",
        "version: there is no column 'changed_at'",
    ),
    "version may be NULL": (
        NATIVE,
        "                required: true\n",
        "",
        "must be `required`, or newest would be a guess",
    ),
    "date of another type": (
        REDDIT,
        "date: {column: date}",
        "date: {column: clicks}",
        "date: 'clicks' must be of type date or timestamptz",
    ),
    "zone nowhere": (
        REDDIT,
        "          zone: UTC\n",
        "",
        "is a timestamp whose zone is neither in its formats (%z) nor declared",
    ),
    "zone unknown": (REDDIT, "zone: UTC", "zone: Mars/Base", "'Mars/Base' is no IANA zone"),
    "zone of a date": (
        REDDIT,
        '{meta: {formats: ["%Y-%m-%d"]}}',
        '{meta: {formats: ["%Y-%m-%d"], zone: UTC}}',
        "is the engine's calendar day and is never shifted",
    ),
    "unknown directive": (REDDIT, "%Y-%m-%d %H", "%Y-%m-%d %Q", "has the unknown %Q"),
    "type without zone": (
        REDDIT,
        "data_type: timestamptz",
        "data_type: timestamp",
        "data_type: must be one of text, bigint",
    ),
    "parent unknown": (
        SNAPCHAT,
        "parent: ad_history.id",
        "parent: ads.id",
        "'ads.id' is not the key of a table of snapchat",
    ),
    "parent that is no key": (
        SNAPCHAT,
        "parent: ad_history.id",
        "parent: ad_history.name",
        "'ad_history.name' is not the key",
    ),
    "feed out of reach": (
        SNAPCHAT,
        ", parent: ad_squad_history.id",
        "",
        "reads snapchat.campaign_history, which no `parent` of a column leads to",
    ),
    "feed of an unknown table": (
        REDDIT_MODELS,
        "records_from: campaign_report",
        "records_from: campaign_reports",
        "there is no source table 'campaign_reports'",
    ),
    "feed of another table": (
        REDDIT_MODELS,
        "records_from: campaign_report",
        "records_from: account",
        "the SQL does not read 'account'",
    ),
    "feed not declared": (
        REDDIT_MODELS,
        "    config: {meta: {feed: {records_from: campaign_report}}}\n",
        "",
        "declares no config.meta.feed",
    ),
    "append with a window": (
        REDDIT,
        "mode: append\n",
        "mode: append\n              window: all\n",
        "append has no 'window'",
    ),
    "snapshot without as_of": (
        REDDIT,
        "              as_of: {column: _fivetran_synced}\n",
        "",
        "a snapshot needs 'as_of'",
    ),
    "pattern without groups": (
        REDDIT,
        "window: all",
        "window: {file_name: '(?P<from>.*)'}",
        "lacks the group (?P<to>..)",
    ),
    "reserved column": (
        REDDIT,
        "- name: attribution_type",
        "- name: record_key",
        "'record_key' is a column of every raw table already",
    ),
    "another currency": (
        REDDIT,
        "currency: {value: USD}",
        "currency: {value: EUR}",
        "amounts must be in USD",
    ),
    "no description": (
        REDDIT,
        "            description: Identifier of the campaign.\n",
        "",
        "columns[id]: lacks a description",
    ),
    "unknown docs block": (REDDIT, "doc('sync_time')", "doc('sync')", "no docs block 'sync'"),
    "grain without column": (
        MARTS,
        "grain: [organization_id, day, partner_id]",
        "grain: [organization_id, date, partner_id]",
        "mart.grain: there is no column 'date'",
    ),
    "grain without organization": (
        MARTS,
        "grain: [organization_id, day, partner_id]",
        "grain: [day, partner_id]",
        "starts with organization_id",
    ),
    "filter without column": (
        MARTS,
        "filters: [partner_id]",
        "filters: [campaign_id]",
        "mart.filters: there is no column 'campaign_id'",
    ),
    "scope without column": (
        MARTS,
        "partner: partner_id}",
        "partner: partner}",
        "mart.scope: there is no column 'partner'",
    ),
    "window without column": (
        MARTS,
        "window: {column: day,",
        "window: {column: days,",
        "mart.window: there is no column 'days'",
    ),
    "window longer than the longest": (
        MARTS,
        "default: 30d, max: 92d",
        "default: 93d, max: 92d",
        "93 days are longer than the longest window, 92 days",
    ),
    "key outside the grain": (
        MARTS,
        'keys: {week: "',
        'keys: {month: "',
        "keys.month: is no column of the grain",
    ),
    "scope that no source knows": (
        MARTS,
        "scope: {organization: organization_id, partner:",
        "scope: {organization: organization_id, parner:",
        "no source column has the scope 'parner', did you mean 'partner'?",
    ),
    "scope that no mart knows": (
        REDDIT,
        "{scope: partner}",
        "{scope: partners}",
        "no mart has the scope 'partners', did you mean 'partner'?",
    ),
    "grain that no changed key tells": (
        MARTS,
        "keys: {week: ",
        "keys: {partner_id: ",
        "changed_keys can't find week in the keys of fact_events",
    ),
    "roles without a column": (
        ROLES,
        "role,description,",
        "role,",
        "seeds/roles.csv:1: the first line must be role,description,may_operate,may_administer",
    ),
    "a role that is no name": (
        ROLES,
        "monitoring,",
        "Monitor ing,",
        "seeds/roles.csv:4: role: 'Monitor ing' is no name",
    ),
    "a role given twice": (ROLES, "operator,", "agent,", "5: role: 'agent' is there twice"),
    "a right that is neither": (
        ROLES,
        "false,false",
        "false,no",
        "seeds/roles.csv:2: may_administer: 'no' must be true or false",
    ),
    "a role with too few values": (ROLES, ",true,true", ",true", "has 3 values; 4 are expected"),
    "column type of no column": (
        "seeds/_seeds.yml",
        "is_revenue: boolean}",
        "is_revenu: boolean}",
        "column_types.is_revenu: there is no column of this name, did you mean 'is_revenue'?",
    ),
    "no reporting zone": (
        "dbt_project.yml",
        "  reporting_timezone: UTC",
        "  reporting_timezon: UTC",
        "reporting_timezone must be an IANA zone",
    ),
    "no reporting currency": (
        "dbt_project.yml",
        "  reporting_currency: USD",
        "  reporting_currency: dollars",
        "reporting_currency must be an ISO code",
    ),
    "backfills of no length": (
        "dbt_project.yml",
        "backfill_max_weeks: 52",
        "backfill_max_weeks: a year",
        "backfill_max_weeks must be a whole number of weeks",
    ),
    "no cron line": (
        MARTS,
        'cadence: "*/15 * * * *"',
        'cadence: "61 * * * *"',
        "'61 * * * *' is no cron line",
    ),
    "four fields": (MARTS, '"*/15 * * * *"', '"*/15 * * *"', "is no cron line of five fields"),
    "weekday by number": (MARTS, '"*/15 * * * *"', '"0 6 * * 1"', "write weekdays as mon to sun"),
    "a list that is none": (
        REDDIT,
        "key: [id]",
        "key: id",
        'landing.key: "id" is no list. Columns that identify a record within its organization.',
    ),
    "one of two keys": (
        REDDIT,
        "{value: default}",
        "{value: default, column: id}",
        "landing.organization: {",
    ),
    "a config that is none": (
        REDDIT,
        "config: {meta: {scope: partner}}",
        "config: partner",
        'columns[id].config: "partner" is no mapping',
    ),
    "a misspelt kind of window": (
        REDDIT,
        "window: all",
        "window: {colums: {from: date, to: date}}",
        "landing.window.colums: unknown key, did you mean 'columns'?",
    ),
    "half a window": (
        REDDIT,
        "window: all",
        "window: {columns: {from: date}}",
        "landing.window.columns: lacks the key 'to'",
    ),
    "a control without its kind": (
        MARTS,
        "{control: spend_amount, kind: money}",
        "{control: spend_amount}",
        "lacks one of 'kind'",
    ),
    "a duration in words": (
        MARTS,
        "freshness_sla: 15m",
        "freshness_sla: 15 minutes",
        '"15 minutes" has not the form',
    ),
    "a mart without a declaration": (
        MARTS,
        "  - name: daily_metrics\n",
        "  - name: hourly_metrics\n    description: One row per hour.\n  - name: daily_metrics\n",
        "models[hourly_metrics]: a model in models/reporting needs config.meta.mart",
    ),
    "a path used twice": (
        MARTS,
        "path: metadata/parity",
        "path: daily-metrics",
        "this path of a mart is declared 2 times",
    ),
    "a path that the API serves itself": (
        MARTS,
        "path: metadata/parity",
        "path: metadata/refresh",
        "the API serves something else at 'metadata/refresh'",
    ),
    "a filter that is a parameter of every mart": (
        MARTS,
        "filters: [mart, partner_id",
        "filters: [page, partner_id",
        "'page' is a parameter of every mart already",
    ),
    "a default window of no day": (
        MARTS,
        "default: 30d",
        "default: 0d",
        "has not the form",
    ),
    "a mart without SQL": (
        MARTS,
        "- name: daily_metrics",
        "- name: dayly_metrics",
        "there is no readable dayly_metrics.sql",
    ),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_a_declaration_that_cannot_be_meant_is_an_error(
    project: Path, case: tuple[str, str, str, str]
) -> None:
    file, old, new, expected = case
    edit(project, file, old, new)
    message = _error(project)
    assert expected in message
    assert f"\n  {file.split('/')[0]}" in message


def _keys(
    node: yaml.Node, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], yaml.Node]]:
    """Every key below a node, with its path; items of a list share one."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key
            yield from _keys(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _keys(value, path)


def test_no_key_of_the_project_can_be_misspelt_in_silence(project: Path) -> None:
    """One key of every kind and place; unit tests' rows and columns' names are dbt's to check."""
    project_file, _ = read_yaml(project / "dbt_project.yml", "dbt_project.yml")
    tests = generic_tests(project, project_file)
    names = {"rows", "scope", "keys", "column_types", "macros"}
    seen: set[tuple[str, ...]] = set()
    silent = []
    for path in sorted([*project.glob("models/**/*.yml"), *project.glob("s*s/*.yml")]):
        text = path.read_text()
        name = path.relative_to(project).as_posix()
        for place, node in _keys(yaml.compose(text) or yaml.ScalarNode("", "")):
            if (name.split("/")[1], *place) in seen or names & set(place[:-1]):
                continue
            seen.add((name.split("/")[1], *place))
            start, end = node.start_mark.index, node.end_mark.index
            middle = (start + end) // 2
            wrong = project / "wrong.yml"
            wrong.write_text(text[:middle] + "q" + text[middle:])
            file, problems = read_yaml(wrong, name)
            if not problems and not check_keys(file, tests):
                silent.append(".".join((name, *place)))
    assert len(seen) > 100
    assert silent == []


def test_all_problems_are_told_at_once_in_the_order_of_the_files(project: Path) -> None:
    edit(project, REDDIT, "data_type: text", "data_typ: text")
    edit(project, SNAPCHAT, "mode: append", "mdoe: append")
    lines = _error(project).splitlines()
    assert lines[0] == "the declarations have 2 problems:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [REDDIT, SNAPCHAT]


def test_a_folder_without_a_project_says_so(tmp_path: Path) -> None:
    assert "holds no dbt_project.yml" in _error(tmp_path)


def test_an_empty_yaml_file_declares_nothing(project: Path, catalogue: Catalogue) -> None:
    (project / "models/staging/reddit_ads/_empty.yml").write_text("")
    assert read_catalogue(project) == catalogue


def test_a_yaml_file_among_the_python_tests_declares_nothing(
    project: Path, catalogue: Catalogue
) -> None:
    (project / "tests/python").mkdir()
    (project / "tests/python/rules.yml").write_text("extends: spectral:oas\n")
    assert read_catalogue(project) == catalogue


def test_tables_say_how_they_are_landed(catalogue: Catalogue) -> None:
    report = catalogue.source("reddit_ads", "account_report")
    assert report.relation == "reddit_ads__account_report"
    assert (report.mode, report.key) == ("snapshot", ("account_id", "date"))
    assert report.organization_value == "default"
    assert report.window == ExtractWindow(kind="all")
    assert report.as_of == AsOf(kind="column", column="_fivetran_synced")
    assert report.final_newline == "optional"
    assert report.freshness_limit_seconds == 3 * 86400
    assert report.column("_fivetran_synced").is_volatile
    assert report.column("_fivetran_synced").zone == "UTC"
    assert report.column("account_id").is_required
    assert "connector read the record" in report.column("_fivetran_synced").description
    native = catalogue.source("oversight", "spend")
    assert (native.organization_column, native.organization_value) == ("organization_id", None)
    assert native.version_column == "updated_at"
    assert native.column("updated_at").zone is None
    assert native.final_newline == "required"
    assert native.column("is_withdrawn").is_optional


def test_shares_that_are_allowed_are_declared(project: Path, catalogue: Catalogue) -> None:
    report = catalogue.source("reddit_ads", "account_report")
    assert (report.max_void_share, report.max_rejected_share) == (0.2, 0.01)
    shares = "mode: snapshot\n              max_rejected_share: 0.05\n"
    edit(project, REDDIT, "mode: snapshot\n", shares + "              max_void_share: 0.5\n")
    report = read_catalogue(project).source("reddit_ads", "account_report")
    assert (report.max_void_share, report.max_rejected_share) == (0.5, 0.05)


def test_marts_say_how_they_are_served(catalogue: Catalogue) -> None:
    daily, weekly = catalogue.mart("daily_metrics"), catalogue.mart("weekly_partner_performance")
    assert (daily.path, daily.cadence) == ("daily-metrics", "*/15 * * * *")
    assert daily.freshness_sla_seconds == 900
    assert daily.window == MartWindow(column="day", default_days=30, max_days=92, kind="day")
    assert weekly.window is not None
    assert weekly.window.kind == "week"
    assert weekly.freshness_sla_seconds == 3600
    assert daily.column("spend").is_required
    assert not catalogue.mart("parity_results").column("period").is_required
    assert (daily.column("spend").control, daily.column("spend").kind) == ("spend_amount", "money")
    assert catalogue.mart("parity_results").cadence is None


def test_a_column_has_the_values_that_its_test_accepts(catalogue: Catalogue) -> None:
    parity = catalogue.mart("parity_results")
    assert parity.column("verdict").values == ("ok", "failed", "unchecked")
    assert parity.column("metric").values == ()


def test_every_engine_feeds_every_fact_and_dimension(catalogue: Catalogue) -> None:
    feeds = {(feed.engine, feed.name) for feed in catalogue.feeds}
    names = ("partners", "campaigns", "spend", "events", "control_totals")
    assert feeds == {(engine, name) for engine in catalogue.engines for name in names}
    spend = next(feed for feed in catalogue.feeds if feed.model == "stg_snapchat__spend")
    assert spend.records_from == "ad_hourly_report"
    assert set(spend.sources) == {
        "ad_hourly_report",
        "ad_history",
        "ad_squad_history",
        "campaign_history",
    }


def test_json_gives_back_the_same_catalogue_and_hash(catalogue: Catalogue) -> None:
    again = Catalogue.from_json(catalogue.to_json())
    assert again == catalogue
    assert again.content_hash == catalogue.content_hash
    assert Catalogue.from_json(json.loads(catalogue.to_json())) == catalogue


def test_a_catalogue_of_another_version_is_refused(catalogue: Catalogue) -> None:
    content = json.loads(catalogue.to_json()) | {"tiles": []}
    with pytest.raises(CatalogueError, match=r"tiles.*oversight deploy"):
        Catalogue.from_json(content)


def test_reading_needs_neither_dbt_nor_a_database() -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from warehouse.catalogue import read_catalogue\n"
        f"read_catalogue(Path({str(PROJECT_DIR)!r}))\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'dbt'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_nothing_is_served_before_the_first_deployment(warehouse: Settings) -> None:
    connection = database.connect(warehouse)
    try:
        with pytest.raises(CatalogueError, match="run `oversight deploy`"):
            deployed(connection)
    finally:
        connection.close()


def test_a_deployment_is_stored_once_and_announced(
    warehouse: Settings, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What dbt says of the checkout is the next test's; here it agrees at once."""
    agrees = subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(dbt, "run", lambda *_, **__: agrees)
    settings = replace(warehouse, project_dir=project)
    listener = database.connect(settings, autocommit=True)
    try:
        with listener.cursor() as cursor:
            cursor.execute("listen oversight_catalogue")
            first = deploy(settings)
            assert deployed(listener) == first
            edit(project, MARTS, "freshness_sla: 15m", "freshness_sla: 20m")
            assert deployed(listener).mart("daily_metrics").freshness_sla_seconds == 900
            second = deploy(settings)
            assert deploy(settings) == second
            assert deployed(listener) == second
            edit(project, MARTS, "freshness_sla: 20m", "freshness_sla: 15m")
            assert deploy(settings) == first
            assert deployed(listener) == first
            cursor.execute("select count(*) from metadata.catalogue")
            assert cursor.fetchone() == (2,)
        listener.poll()
        hashes = [notice.payload for notice in listener.notifies]
        assert hashes == [first.content_hash, second.content_hash, first.content_hash]
    finally:
        listener.close()


def test_a_broken_checkout_never_changes_what_is_served(warehouse: Settings, project: Path) -> None:
    settings = replace(warehouse, project_dir=project)
    served = deploy(settings)
    edit(project, MARTS, "freshness_sla: 15m", "freshnes_sla: 15m")
    with pytest.raises(CatalogueError, match="did you mean 'freshness_sla'"):
        deploy(settings)
    edit(project, MARTS, "freshnes_sla: 15m", "freshness_sla: 20m")
    edit(project, "models/reporting/daily_metrics.sql", '("fact_spend")', '("fact_spent")')
    with pytest.raises(CatalogueError, match=r"dbt can't parse[\s\S]*fact_spent"):
        deploy(settings)
    connection = database.connect(settings)
    try:
        assert deployed(connection) == served
    finally:
        connection.close()
