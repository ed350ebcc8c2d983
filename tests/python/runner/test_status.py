"""`oversight status`: what a person and a program learn from it, with and without a runner."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from api_warehouse import DAILY, WEEKLY, ApiWarehouse
from click.testing import CliRunner, Result
from rich.console import Console

from runner.cli import main
from runner.status.read import read_status
from runner.status.show import duration, share, show
from warehouse.declared import Catalogue, SourceTable
from warehouse.settings import Settings

KEYS = [
    "as_of", "leader", "marts", "jobs", "running", "requests", "backfills", "alerts", "parity",
    "rejected",
]  # fmt: skip
BUSY = """
    update metadata.leadership set epoch = 3, runner = 'host pid 48213',
        taken_at = now() - interval '3 h', heartbeat_at = now();
    insert into metadata.jobs (job_name, kind, cadence, since) values
        ('daily_metrics', 'refresh', '*/15 * * * *', now() - interval '20 d'),
        ('weekly_partner_performance', 'refresh', '0 * * * *', now() - interval '1 s'),
        ('pull reddit_ads', 'pull', '* * * * *', now() - interval '3 h');
    insert into metadata.refresh_log
        (job_name, scheduled_for, started_at, finished_at, status, rows_affected)
        select job_name, slot, slot, slot + interval '9 s', 'success', 812
        from metadata.job_slots where job_name = 'daily_metrics';
    insert into metadata.refresh_log (job_name, started_at, status)
        values ('weekly_partner_performance', now() - interval '40 s', 'running');
    insert into metadata.data_versions
        (model, organization_id, last_refresh_at, data_through, stale_after) values
        ('daily_metrics', 'alpha', now() - interval '7 min', now() - interval '3 h', null),
        ('weekly_partner_performance', 'an-organization-with-quite-a-long-name-of-its-own',
            now() - interval '7 min', now() - interval '3 h', now() - interval '5 min');
    insert into metadata.batches (engine, status, path, report) values ('reddit_ads', 'landed',
        '/x', '{"files": [{"source_table": "spend", "read": 100, "rejected": 31}]}');
    insert into metadata.waiting_batches
        select 'daily_metrics', 'alpha', batch_id, now() - interval '6 min' from metadata.batches;
    insert into metadata.parity_verdicts
        (organization_id, mart, partner_id, period, metric, verdict)
        values ('alpha', 'daily_metrics', 'p', '2026-01-01', 'spend', 'failed');
    insert into metadata.job_requests (kind, requested_by) values ('pull', 'api:ops');
    insert into metadata.backfills
        (engine, first_week, last_week, max_weeks, max_attempts, request_id)
        select 'reddit_ads', '2026-01-05', '2026-01-12', 52, 3, request_id
        from metadata.job_requests;
    insert into metadata.backfill_weeks (backfill_id, week, last_attempt, status, finished_at)
        select backfill_id, w.week, 3, w.status, w.finished_at from metadata.backfills
        cross join (values
            ('2026-01-05'::date, 'done', now()), ('2026-01-12', 'pending', null)
        ) as w (week, status, finished_at);
"""


@pytest.fixture
def quiet(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> ApiWarehouse:
    """Migrated, and nothing else."""
    monkeypatch.setenv("OVERSIGHT_DATABASE_URL", str(warehouse.database_url))
    return ApiWarehouse(settings=warehouse)


@pytest.fixture
def busy(quiet: ApiWarehouse) -> ApiWarehouse:
    """A runner leads, one mart is late, one job overdue, and there is one of everything."""
    marts = (DAILY, replace(WEEKLY, cadence="0 * * * *"))
    table = SourceTable(
        engine="reddit_ads", name="spend", relation="reddit_ads__spend", description="Spend.",
        files=("spend.csv",), mode="append", key=("id",), columns=(),
    )  # fmt: skip
    quiet.deploy(Catalogue(sources=(table,), feeds=(), marts=marts))
    quiet.run(BUSY)
    return quiet


def status(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["status", *arguments])
    assert result.exit_code == 0, result.output
    return result


def screen(warehouse: ApiWarehouse, width: int) -> list[str]:
    """What a terminal of that width shows, without its colours."""
    output = io.StringIO()
    terminal = Console(
        file=output, width=width, force_terminal=True, no_color=True, color_system=None
    )
    show(read_status(warehouse.settings), terminal)
    return output.getvalue().splitlines()


@pytest.mark.usefixtures("quiet")
def test_an_empty_warehouse_has_a_status_and_nobody_leads() -> None:
    assert [line.split(": ")[0] for line in status().stdout.splitlines()] == [
        "as of", "leader", "waiting",
    ]  # fmt: skip
    assert "leader: nobody; start one with `oversight schedule`" in status().stdout
    found = json.loads(status("--json").stdout)
    assert list(found) == KEYS
    assert [found[key] for key in KEYS[1:]] == [None] + [[]] * 8


@pytest.mark.usefixtures("busy")
def test_a_program_gets_every_part() -> None:
    found = json.loads(status("--json").stdout)
    assert list(found) == KEYS
    assert found["as_of"].endswith("Z")
    assert (found["leader"]["runner"], found["leader"]["epoch"]) == ("host pid 48213", 3)
    late, fresh = found["marts"]
    assert (late["mart"], late["status"]) == ("weekly_partner_performance", "late")
    assert (fresh["mart"], fresh["status"], fresh["waiting_batches"]) == (
        "daily_metrics", "fresh", 1,
    )  # fmt: skip
    assert (fresh["sla_share"], fresh["sla_goal"], late["sla_share"]) == (1.0, 0.99, None)
    jobs = {job["job_name"]: job for job in found["jobs"]}
    assert jobs["daily_metrics"]["status"] == "success"
    assert jobs["pull reddit_ads"]["overdue_slots"] > 100
    assert [run["job_name"] for run in found["running"]] == ["weekly_partner_performance"]
    assert 40 <= found["running"][0]["seconds"] < 100
    assert found["requests"][0]["kind"] == "pull"
    assert found["backfills"][0]["percent"] == 50
    assert found["parity"] == [
        {"mart": "daily_metrics", "organization_id": "alpha", "failed_keys": 1}
    ]
    assert found["rejected"] == [{"engine": "reddit_ads", "records": 31}]
    assert {alert["key"].split(":")[0] for alert in found["alerts"]} == {
        "dead-man", "parity", "rejected", "sla",
    }  # fmt: skip


def test_80_columns_hold_it_and_only_names_are_cut(busy: ApiWarehouse) -> None:
    lines = screen(busy, 80)
    assert max(map(len, lines)) <= 80
    (header,) = [line for line in lines if line.startswith("mart") and "SLA" in line]
    assert header.split() == ["mart", "organization", "status", "refreshed", "waits", "SLA", "kept"]
    (late,) = [line for line in lines if line.startswith("weekly_partner") and " late " in line]
    assert late.split()[2:] == ["late", "7", "min", "-", "1", "h", "-"], "a source is silent"
    assert "an-organization" in late
    assert "…" in late
    (daily,) = [line for line in lines if line.startswith("daily_metrics") and " alpha " in line
                and "fresh" in line]  # fmt: skip
    assert daily.split()[-8:] == ["7", "min", "6", "min", "15", "min", "100.0", "%"]
    wide = screen(busy, 140)
    assert any("an-organization-with-quite-a-long-name-of-its-own late" in line for line in wide)


@pytest.mark.usefixtures("busy")
def test_a_log_gets_a_line_for_each_thing() -> None:
    lines = status().stdout.splitlines()
    assert "\x1b" not in "".join(lines)
    assert "jobs: daily_metrics, cadence */15 * * * *, state success, last run" in "\n".join(lines)
    assert "backfills: 1, engine reddit_ads, weeks 2026-W02 to 2026-W03, state pending, " in (
        "\n".join(lines)
    )
    assert [line for line in lines if line.startswith("alert: critical: pull reddit_ads does not")]


def test_a_leader_without_a_heartbeat_leads_no_more(busy: ApiWarehouse) -> None:
    assert "nobody" not in status().stdout
    busy.run("update metadata.leadership set heartbeat_at = now() - interval '20 s'")
    assert "nobody leads now" in status().stdout


def test_more_marts_than_fit_a_screen_are_counted_those_in_trouble_first(
    busy: ApiWarehouse,
) -> None:
    busy.run(
        "insert into metadata.data_versions (model, organization_id)"
        " select 'daily_metrics', 'o' || n from generate_series(1, 30) as n"
    )
    lines = screen(busy, 80)
    assert any(line.startswith("and 12 more, 0 of them not fresh") for line in lines)
    assert lines[lines.index("marts") + 2].startswith("weekly_partner")


def test_a_database_that_is_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERSIGHT_DATABASE_URL", "postgresql://someone:secret@127.0.0.1:1/there")
    for arguments in (["status"], ["status", "--json"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 1
        assert "can't reach the database" in result.output
        assert "secret" not in result.output


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (119, "119 s"), (120, "2 min"), (3600, "1 h"),
     (5400, "90 min"), (7200, "2 h"), (86400, "24 h"), (172800, "2 d")],
)  # fmt: skip
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (1, "100.0 %"), (0.99999, "99.9 %"), (0.5, "50.0 %")]
)
def test_a_share_is_never_rounded_up(value: Any, text: str) -> None:
    assert share(value) == text
