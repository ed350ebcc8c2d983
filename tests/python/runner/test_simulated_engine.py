"""The simulated engine over HTTP: the records of `simulate`, at its own time, with its faults."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner
from engines import TOKEN, ServedEngine, served, specification
from simulated import controlled, final

from clusters import PROJECT_DIR
from runner.cli import main
from runner.simulation.engine import Clock
from runner.simulation.faults import Fault, parse_fault
from runner.simulation.simulate import simulate
from runner.simulation.specification import SimulationError

HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def ask(engine: ServedEngine, path: str, **parameters: Any) -> requests.Response:
    return requests.get(engine.server.url + path, params=parameters, headers=HEADERS, timeout=10)


def rows(engine: ServedEngine, table: str, **parameters: Any) -> list[dict[str, Any]]:
    """All pages of a table."""
    found: list[dict[str, Any]] = []
    while True:
        page = ask(engine, f"/v1/{table}", **parameters).json()
        found += page["rows"]
        if page["next_cursor"] is None:
            return found
        parameters["cursor"] = page["next_cursor"]


@pytest.fixture
def engine() -> Iterator[ServedEngine]:
    with served(specification(rows=800)) as found:
        yield found


@pytest.mark.parametrize(
    "scenario", ["steady", "late", "duplicated", "corrected", "moved", "withdrawn", "outage"]
)
def test_in_the_end_it_shows_what_the_extracts_hold(scenario: str, tmp_path: Path) -> None:
    spec = specification(rows=800, scenario=scenario, path=tmp_path / "extracts")
    report = simulate(spec)
    with served(spec) as engine:
        for table, key in (("spend", "spend_id"), ("events", "event_id")):
            live = [row for row in rows(engine, table, limit=333) if not row["is_withdrawn"]]
            expected = final(report, table)
            assert len(live) == len(expected)
            for row in live:
                known = expected[row["organization_id"], row[key]]
                shown = {name: str(value) for name, value in row.items() if value is not None}
                assert shown | {"is_withdrawn": "false"} == {n: v for n, v in known.items() if v}
        totals = {
            (row["organization_id"], row["day"], row["partner_id"]): row
            for row in rows(engine, "control_totals")
        }
        expected_totals = controlled(report)
        assert totals.keys() == expected_totals.keys()
        for place, figures in expected_totals.items():
            assert [float(value) for value in list(totals[place].values())[3:]] == [
                float(value) for value in figures
            ]


def test_at_a_moment_it_shows_what_has_come_by_then(engine: ServedEngine) -> None:
    noon = datetime(2026, 10, 25, 12, tzinfo=timezone.utc)
    engine.turn_clock(noon)
    shown = rows(engine, "events")
    moments = [datetime.fromisoformat(row["updated_at"].replace("Z", "+00:00")) for row in shown]
    assert noon - timedelta(hours=12) < max(moments) <= noon
    assert moments == sorted(moments)
    totals = ask(engine, "/v1/control_totals").json()
    assert totals["as_of"] == "2026-10-25T12:00:00Z"
    assert totals["window"] == {"from": "2026-10-20", "to": "2026-10-25"}
    assert max(row["day"] for row in totals["rows"]) == "2026-10-25"
    engine.turn_clock(noon + timedelta(days=1))
    assert len(rows(engine, "events")) > len(shown)


def test_pages_after_the_first_are_of_its_moment(engine: ServedEngine) -> None:
    noon = datetime(2026, 10, 25, 12, tzinfo=timezone.utc)
    engine.turn_clock(noon)
    whole = rows(engine, "spend")
    first = ask(engine, "/v1/spend", limit=10).json()
    engine.turn_clock(noon + timedelta(days=3))
    rest = rows(engine, "spend", limit=10, cursor=first["next_cursor"])
    assert first["rows"] + rest == whole


def test_since_days_and_numbered_pages(engine: ServedEngine) -> None:
    whole = rows(engine, "events")
    since = "2026-11-01T00:00:00Z"
    assert rows(engine, "events", since=since) == [r for r in whole if r["updated_at"] >= since]
    days = {"from": "2026-10-21", "to": "2026-10-22"}
    within = [r for r in whole if "2026-10-21" <= r["occurred_at"][:10] <= "2026-10-22"]
    assert rows(engine, "events", **days) == within
    pages = [ask(engine, "/v1/events", limit=150, page=n).json()["rows"] for n in (1, 2, 3, 4)]
    assert [row for page in pages for row in page] == whole
    assert pages[-1] == []
    window = ask(engine, "/v1/control_totals", **{"from": "2026-10-25"}).json()["window"]
    assert window == {"from": "2026-10-25", "to": "2026-11-10"}


def test_lines_and_csv_hold_the_rows_and_headers_the_rest(engine: ServedEngine) -> None:
    expected = ask(engine, "/v1/spend", limit=3).json()
    lines = ask(engine, "/v1/spend.jsonl", limit=3)
    assert [json.loads(line) for line in lines.text.splitlines()] == (expected["rows"])
    assert lines.headers["X-Next-Cursor"] == expected["next_cursor"]
    text = ask(engine, "/v1/spend.csv", limit=3).text.splitlines()
    assert text[0].split(",") == list(expected["rows"][0])
    assert len(text) == 4


def test_who_has_no_token_and_what_is_not_there(engine: ServedEngine) -> None:
    url = engine.server.url
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer ä"}):
        coded = {name: value.encode() for name, value in headers.items()}
        assert requests.get(url + "/v1/events", headers=coded, timeout=10).status_code == 401
        assert requests.get(url + "/faults", headers=coded, timeout=10).status_code == 401
    assert ask(engine, "/v1/nothing").status_code == 404
    assert ask(engine, "/events").status_code == 404
    for wrong in ({"since": "never"}, {"limit": 0}, {"page": 0}, {"cursor": "x"}, {"from": "1"}):
        assert ask(engine, "/v1/events", **wrong).status_code == 400, wrong


class TestFaults:
    def test_a_share_is_spread_evenly_and_numbers_are_met(self) -> None:
        fault = parse_fault("cut=0.3")
        struck = [number for number in range(1, 101) if fault.strikes(number)]
        assert len(struck) == 30
        assert max(b - a for a, b in itertools.pairwise(struck)) <= 4
        numbered = parse_fault("500s@2,5")
        assert [number for number in range(1, 9) if numbered.strikes(number)] == [2, 5]
        assert parse_fault("slow") == Fault(kind="slow", share=1.0)

    @pytest.mark.parametrize("text", ["", "503s", "cut=0", "cut=2", "cut=x", "cut@", "cut@0", "="])
    def test_what_is_none_is_an_error(self, text: str) -> None:
        with pytest.raises(SimulationError, match="no fault; give one of 500s, 429s, slow, cut"):
            parse_fault(text)

    def test_they_are_switched_and_counted_while_it_runs(self, engine: ServedEngine) -> None:
        engine.switch(_500s=[1], _429s=[2, 3])
        answers = [ask(engine, "/v1/partners") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [500, 429, 429, 200]
        assert answers[1].headers["Retry-After"] == "1"
        assert answers[2].headers["Retry-After"].endswith(" GMT")
        assert engine.requests() == 4
        assert engine.done() == {"500s": 1, "429s": 2, "slow": 0, "cut": 0, "repeat": 0}
        engine.switch()
        assert engine.done()["429s"] == 0
        answer = requests.post(
            engine.server.url + "/faults", json={"odd": 1}, headers=HEADERS, timeout=10
        )
        assert answer.status_code == 400

    def test_a_cut_answer_breaks_off_in_both_ways(self, engine: ServedEngine) -> None:
        engine.switch(cut=1)
        for _ in range(2):
            with pytest.raises(requests.exceptions.RequestException):
                ask(engine, "/v1/partners")
        assert engine.done()["cut"] == 2

    def test_a_repeated_page_is_the_one_before(self, engine: ServedEngine) -> None:
        first = ask(engine, "/v1/spend", limit=10).json()
        engine.switch(repeat=1)
        again = ask(engine, "/v1/spend", limit=10, cursor=first["next_cursor"]).json()
        assert again == first
        assert ask(engine, "/v1/spend", limit=10).json() == first
        assert engine.done()["repeat"] == 1


def test_a_clock_goes_at_its_speed_and_can_be_set() -> None:
    start = datetime(2026, 11, 1, tzinfo=timezone.utc)
    assert Clock(start).now() == start
    running = Clock(start, speed=36_000_000)
    assert running.now() > start
    running.turn(start - timedelta(days=10_000))
    assert running.now() < start + timedelta(days=10_000)
    with served(specification(rows=100), start=start) as engine:
        assert engine.clock.now() == start


class TestCommand:
    def test_it_serves_until_interrupted_and_says_how_to_pull(self) -> None:
        command = [sys.executable, "-m", "runner.cli", "simulate", "--serve", "--port", "0"]
        days = ["--from", "2026-11-01", "--to", "2026-11-02", "--rows", "100"]
        process = subprocess.Popen(
            [*command, *days, "--fault", "500s@1", "--clock", "2026-11-02"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT_DIR,
            env={**os.environ, "PYTHONPATH": str(PROJECT_DIR), "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        said = "".join(process.stdout.readline() for _ in range(4))
        (url,) = re.findall(r"export OVERSIGHT_NATIVE_URL=(\S+)", said)
        (token,) = re.findall(r"export OVERSIGHT_NATIVE_TOKEN=(\S+)", said)
        headers = {"Authorization": f"Bearer {token}"}
        statuses = [
            requests.get(f"{url}/v1/events", headers=headers, timeout=10).status_code
            for _ in range(2)
        ]
        clock = requests.get(f"{url}/clock", headers=headers, timeout=10).json()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert statuses == [500, 200]
        assert clock == {"now": "2026-11-02T00:00:00Z"}

    def test_a_path_or_serving_is_needed(self) -> None:
        days = ["--from", "2026-11-01", "--to", "2026-11-02"]
        done = CliRunner().invoke(main, ["simulate", *days])
        assert done.exit_code == 2
        assert "give --path, or --serve" in done.output

    def test_a_port_that_is_taken_is_an_error(self, engine: ServedEngine) -> None:
        port = engine.server.url.rpartition(":")[2]
        days = ["--from", "2026-11-01", "--to", "2026-11-02", "--rows", "100"]
        done = CliRunner().invoke(main, ["simulate", "--serve", "--port", port, *days])
        assert done.exit_code == 1
        assert f"can't listen on port {port}" in done.output


def test_drifted_totals_are_those_of_the_extracts(tmp_path: Path) -> None:
    spec = specification(rows=800, scenario="drift", path=tmp_path / "extracts")
    report = simulate(spec)
    with served(spec) as engine:
        drifted = {
            (row["organization_id"], date.fromisoformat(row["day"]), row["partner_id"]): row
            for row in rows(engine, "control_totals")
        }
    assert len(report.drifts) == 3
    for drift in report.drifts:
        found = drifted[drift.organization_id, drift.day, drift.partner_id]
        assert found["spend_amount"] == str(drift.control_amount)
