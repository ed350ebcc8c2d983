"""The description makes clients that work: the README's, against a live server."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from api_warehouse import ApiWarehouse, json_of
from documents import read_docs
from npm_tools import npm_tool
from server_process import ServerProcess

README = read_docs()
# Types as a program sees them, a window by pages, an error as an object.
TYPES = """
import os
from datetime import date, datetime

from oversight_client import AuthenticatedClient
from oversight_client.api.marts import get_daily_metrics, get_weekly_partner_performance
from oversight_client.api.metadata import list_marts
from oversight_client.models import GetDailyMetricsFieldsItem, Problem

client = AuthenticatedClient(os.environ["URL"], os.environ["KEY"])
page = get_daily_metrics.sync(client=client, from_=date(2026, 9, 1), to=date(2026, 9, 30))
assert len(page.data) == 90 and page.next_page is None
row = page.data[0]
assert (row.day, row.partner_id) == (date(2026, 9, 1), "google_ads:1")
assert type(row.spend) is float and row.spend == 2.00001
assert type(row.clicks) is int and row.clicks == 10**17
assert page.window.from_ == date(2026, 9, 1) and page.window.to == date(2026, 9, 30)
assert isinstance(page.freshness.data_through, datetime)
assert page.freshness.data_through.utcoffset().total_seconds() == 0
assert page.freshness.late_after is None and page.freshness.status.value == "fresh"
assert page.freshness.is_stale is False
first = get_daily_metrics.sync(client=client, page_size=7, fields=[
    GetDailyMetricsFieldsItem.CLICKS, GetDailyMetricsFieldsItem.DAY,
])
assert len(first.data) == 7 and len(first.next_page) > 40
assert first.data[0].to_dict().keys() == {"day", "clicks"}
week = get_weekly_partner_performance.sync(client=client, week="2026-W40")
assert {row.week for row in week.data} == {date(2026, 9, 28)}
assert "daily_metrics" in {mart.name for mart in list_marts.sync(client=client).data}
problem = get_daily_metrics.sync(client=client, page="nonsense")
assert isinstance(problem, Problem) and problem.errors[0].parameter == "page"
"""


def block(language: str) -> str:
    """The one block of that language in the README's section on clients."""
    section = README.split("### Clients")[1]
    text = re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)[0]
    return str(text)


@dataclass
class Live:
    """A server, a key, its description in a folder, and what the server answers."""

    url: str
    key: str
    folder: Path
    rows: list[dict[str, object]]

    def run(self, *command: str, expected: int = 0) -> str:
        """A program in the folder; gives back what it prints."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | {"URL": self.url, "KEY": self.key, "PYTHONPATH": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def live(read_only: ApiWarehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("clients")
    key = read_only.key("generated clients", organization=["alpha"])
    server = ServerProcess(read_only, folder / "log")
    try:
        server.wait_until_ready()
        _, document = server.get("/openapi.json", key)
        (folder / "openapi.json").write_text(json.dumps(document))
        october = {"from_": "2026-10-01", "to": "2026-10-31"}
        rows = json_of(read_only.client(key).get("daily-metrics", None, **october))["data"]
        yield Live(f"http://127.0.0.1:{server.port}", key, folder, rows)
    finally:
        server.stop()


def test_a_generated_python_client_reads_marts(live: Live) -> None:
    program = Path(sys.executable).with_name("openapi-python-client")
    arguments = re.findall(r"^openapi-python-client (.*)$", README, re.MULTILINE)
    live.run(str(program), *arguments[0].split())
    live.run(sys.executable, "-c", TYPES)
    printed = live.run(sys.executable, "-c", block("python")).splitlines()
    assert printed == [f"{row['day']} {row['partner_id']} {float(str(row['spend']))}"
                       for row in live.rows]  # fmt: skip
    assert len(printed) == 90


def test_generated_types_hold_a_program_to_the_description(live: Live) -> None:
    generate = npm_tool("openapi-typescript", "openapi-typescript")
    compiler = npm_tool("typescript", "tsc")
    arguments = re.findall(r"^openapi-typescript (.*)$", README, re.MULTILINE)
    live.run(*generate, *arguments[0].split())
    check = ["--strict", "--target", "es2022", "--module", "es2022", "--lib", "es2022,dom"]
    (live.folder / "spend.ts").write_text(block("ts"))
    live.run(*compiler, *check, "spend.ts")
    wrong = block("ts").replace("row.spend", "row.spent")
    (live.folder / "wrong.ts").write_text(wrong)
    assert "'spent' does not exist" in live.run(
        *compiler, *check, "--noEmit", "wrong.ts", expected=2
    )
    (live.folder / "main.mjs").write_text(
        'import { spend } from "./spend.mjs";'
        " console.log(await spend(process.env.URL, process.env.KEY));"
    )
    (live.folder / "spend.js").rename(live.folder / "spend.mjs")
    node = generate[0]
    total = sum(float(str(row["spend"])) for row in live.rows)
    assert float(live.run(node, "main.mjs")) == pytest.approx(total)
