"""A refresh and its row in metadata.refresh_log, which stays true when dbt fails."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from projects import copy_project, edit
from simulated import specification

from clusters import Cluster
from runner.cli import main
from runner.landing.load import load_engine
from runner.runs.refresh import RefreshError, refresh
from runner.simulation.simulate import simulate
from warehouse.catalogue import deploy
from warehouse.database import connect
from warehouse.settings import Settings


@pytest.fixture(scope="module")
def deployed(server18: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A deployed project of its own, with a simulated engine's extract landed."""
    empty = server18.migrated_database()
    project = copy_project(tmp_path_factory.mktemp("project"))
    settings = dataclasses.replace(empty, project_dir=project, home=tmp_path_factory.mktemp("home"))
    catalogue = deploy(settings)
    extracts = tmp_path_factory.mktemp("extracts")
    simulate(specification(extracts))
    load_engine(settings, catalogue, "oversight", extracts / "oversight")
    yield settings
    server18.drop_database(Cluster.name_of(empty))


def rows(settings: Settings, query: str) -> list[tuple[object, ...]]:
    connection = connect(settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()
    finally:
        connection.close()


def newest_run(settings: Settings) -> dict[str, object]:
    connection = connect(settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute("select to_jsonb(l) from metadata.refresh_log as l order by run_id desc")
            row = cursor.fetchone()
            assert row
            return dict(row[0])
    finally:
        connection.close()


def test_the_first_refresh_makes_everything_and_counts_rows(deployed: Settings) -> None:
    done = refresh(deployed)
    run = newest_run(deployed)
    tables = (
        *("curated.fact_spend", "curated.fact_events", "curated.fact_control_totals"),
        *("curated.dim_partner", "curated.dim_campaign"),
        *("reporting.daily_metrics", "reporting.weekly_partner_performance"),
    )
    counts = " + ".join(f"(select count(*) from {table})" for table in tables)
    ((counted,),) = rows(deployed, f"select {counts}")
    assert (done.status, run["status"], run["job_name"]) == ("success", "success", "refresh")
    assert run["rows_affected"] == done.rows_affected == counted
    assert isinstance(counted, int)
    assert counted > 1500
    assert run["finished_at"] is not None
    assert run["error_message"] is None


def test_the_first_build_notes_how_long_its_data_waited_and_a_rebuild_nothing(
    deployed: Settings,
) -> None:
    noted = (
        "select model, organization_id, sum(batches)::int, max(longest_seconds)"
        " from metadata.mart_waits group by 1, 2 order by 1, 2"
    )
    refresh(deployed)
    found = rows(deployed, noted)
    assert {row[0] for row in found} >= {"daily_metrics", "weekly_partner_performance"}
    batches = rows(
        deployed,
        "select organization_id, count(distinct batch_id)::int"
        " from metadata.batch_tables group by 1 order by 1",
    )
    assert [(row[1], row[2]) for row in found if row[0] == "daily_metrics"] == batches
    assert all(isinstance(row[3], float) and 0 < row[3] < 3600 for row in found)
    refresh(deployed, full=True)
    assert rows(deployed, noted) == found, "what it held before did not wait"


def test_a_refresh_with_nothing_landed_since_writes_nothing(deployed: Settings) -> None:
    refresh(deployed)
    before = rows(deployed, "select xmin::text, * from reporting.daily_metrics order by 2, 3, 4")
    versions = rows(
        deployed,
        "select model, organization_id, version from metadata.data_versions"
        " where model = 'daily_metrics' order by 1, 2",
    )
    assert refresh(deployed).rows_affected == 0
    assert before == rows(
        deployed, "select xmin::text, * from reporting.daily_metrics order by 2, 3, 4"
    )
    assert versions == rows(
        deployed,
        "select model, organization_id, version from"
        " metadata.data_versions where model = 'daily_metrics' order by 1, 2",
    )


def test_named_marts_take_the_facts_below_them_and_no_other_mart(deployed: Settings) -> None:
    refresh(deployed, ["daily_metrics"])
    run = newest_run(deployed)
    assert run["job_name"] == "refresh daily_metrics"
    assert run["models"] == [
        "daily_metrics",
        "dim_campaign",
        "dim_partner",
        "fact_control_totals",
        "fact_events",
        "fact_spend",
    ]


def test_an_unknown_mart_is_an_error_with_a_suggestion_and_no_run(deployed: Settings) -> None:
    before = rows(deployed, "select count(*) from metadata.refresh_log")
    with pytest.raises(RefreshError, match="did you mean daily_metrics"):
        refresh(deployed, ["daily_metric"])
    assert rows(deployed, "select count(*) from metadata.refresh_log") == before


def test_a_failing_model_is_logged_with_its_error_and_changes_nothing(deployed: Settings) -> None:
    refresh(deployed)
    before = rows(deployed, "select * from reporting.daily_metrics order by 1, 2, 3")
    model = "models/reporting/daily_metrics.sql"
    edit(deployed.project_dir, model, "sum(clicks) as clicks", "sum(clicks / 0) as clicks")
    try:
        with pytest.raises(RefreshError, match="division by zero"):
            refresh(deployed, full=True)
    finally:
        edit(deployed.project_dir, model, "sum(clicks / 0) as clicks", "sum(clicks) as clicks")
    run = newest_run(deployed)
    assert run["status"] == "failed"
    assert "daily_metrics" in str(run["error_message"])
    assert "division by zero" in str(run["error_message"])
    assert rows(deployed, "select * from reporting.daily_metrics order by 1, 2, 3") == before


def test_a_job_that_still_runs_is_skipped_and_logged(deployed: Settings) -> None:
    other = connect(deployed, autocommit=True)
    try:
        with other.cursor() as cursor:
            cursor.execute("select pg_advisory_lock(hashtextextended('oversight job refresh', 0))")
        assert refresh(deployed).status == "skipped_overlap"
        assert newest_run(deployed)["status"] == "skipped_overlap"
    finally:
        other.close()
    assert refresh(deployed).status == "success"


def test_dbt_by_hand_leaves_a_manual_row(deployed: Settings, tmp_path: Path) -> None:
    from warehouse import dbt

    outcome = dbt.run(deployed, "run", "--select", "daily_metrics", target_path=tmp_path)
    assert outcome.returncode == 0, outcome.stdout
    run = newest_run(deployed)
    assert (run["job_name"], run["status"]) == ("manual", "success")
    assert run["models"] == ["daily_metrics"]


def test_dbt_refuses_another_warehouse_than_the_one_meant(
    deployed: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from warehouse import dbt

    monkeypatch.setattr(dbt, "instance_id", lambda _: "00000000-0000-0000-0000-000000000000")
    before = rows(deployed, "select count(*) from metadata.refresh_log")
    outcome = dbt.run(deployed, "run", "--select", "daily_metrics", target_path=tmp_path)
    assert outcome.returncode != 0
    assert "nothing was done" in outcome.stdout
    assert rows(deployed, "select count(*) from metadata.refresh_log") == before


def test_json_is_the_run_as_it_is_logged(
    deployed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERSIGHT_DATABASE_URL", str(deployed.database_url))
    monkeypatch.setenv("OVERSIGHT_PROJECT_DIR", str(deployed.project_dir))
    monkeypatch.setenv("OVERSIGHT_HOME", str(deployed.home))
    done = CliRunner().invoke(main, ["refresh", "daily_metrics", "--json"])
    assert done.exit_code == 0
    answer = json.loads(done.stdout)
    run = newest_run(deployed)
    assert {name: run[name] for name in ("run_id", "status", "rows_affected")} == {
        name: answer[name] for name in ("run_id", "status", "rows_affected")
    }
    assert answer["failed_parity"] == 0
    wrong = CliRunner().invoke(main, ["refresh", "daily_metric", "--json"])
    assert wrong.exit_code == 1
    assert "did you mean daily_metrics?" in json.loads(wrong.stdout)["error"]
