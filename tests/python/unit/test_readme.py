"""What README.md and docs/ say is so: commands, variables, names, examples; a round is run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from documents import PAGES, read_docs
from projects import copy_project

from clusters import PROJECT_DIR
from runner.cli import main
from warehouse.catalogue import read_catalogue
from warehouse.database import admin_dsn, connect
from warehouse.settings import Settings

README = read_docs()
_OWN_VARIABLES = {"OVERSIGHT_RUN_ID", "OVERSIGHT_INSTANCE"}
"""What `oversight` sets for dbt itself; nobody else should."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands(group: click.Group) -> set[str]:
    """Every command of the command line, `db start` and the like for those in groups."""
    return set(all_commands(group))


def mentioned_commands() -> set[str]:
    """Commands in the table of the command line and in shell blocks."""
    table = README.split("## The command line")[1].split("\n## ")[0]
    found = set()
    for text in re.findall(r"^\| (.*?) \|", table, re.MULTILINE):
        for code in re.findall(r"`([^`]+)`", text):
            words = code.removeprefix("oversight ").split()
            named = [word for word in words[:3] if re.fullmatch(r"[a-z]+(-[a-z]+)*", word)]
            found.add(" ".join(named))
    return found


def test_every_command_is_in_the_readme_and_every_one_there_exists() -> None:
    assert mentioned_commands() == commands(main)
    known = {command.split()[0] for command in commands(main)}
    everywhere = set(re.findall(r"(?:^|`)oversight ([a-z]+)", README, re.MULTILINE))
    assert everywhere <= known


def test_options_in_the_readme_exist() -> None:
    for line in re.findall(r"(?:^|`)(oversight [^`\n#]+)", README, re.MULTILINE):
        words = line.split()[1:]
        command: click.Command = main
        while isinstance(command, click.Group) and words:
            words[0] = words[0].strip("`,")
            _, found, words = command.resolve_command(click.Context(command), words)
            assert found is not None, line
            command = found
        options = {text for option in command.params for text in option.opts}
        used = set(re.findall(r"--[a-z-]+", " ".join(words)))
        assert used <= options | {"--help"}, line


def test_every_variable_is_in_the_readme_and_every_one_there_exists() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("warehouse", "runner", "api")
        for path in (PROJECT_DIR / folder).rglob("*.py")
    )
    known = set(re.findall(r"OVERSIGHT_[A-Z_]*[A-Z]", code)) - _OWN_VARIABLES
    named = set(re.findall(r"OVERSIGHT_[A-Z_]*[A-Z]", README))
    files = {f"{name}_FILE" for name in known}
    assert named - files == known - files


def test_the_object_of_every_command_that_prints_one_is_described() -> None:
    table = README.split("| its object |")[1].split("\n\n")[0]
    cells = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    described = {
        code.removeprefix("oversight ").removesuffix(" --json")
        for cell in cells
        for code in re.findall(r"`([^`]+)`", cell)
    }
    assert described == {
        name for name, command in all_commands(main).items() if has_option(command, "--json")
    }


def all_commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= all_commands(command, f"{prefix}{name} ")
        else:
            found[prefix + name] = command
    return found


def has_option(command: click.Command, option: str) -> bool:
    return any(option in parameter.opts for parameter in command.params)


def test_make_targets_exist() -> None:
    makefile = (PROJECT_DIR / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))
    assert {"run", "test"} <= named
    assert named <= targets


def test_names_of_engines_models_and_files_exist() -> None:
    engines = {path.name for path in (PROJECT_DIR / "models/staging").iterdir() if path.is_dir()}
    listed = README.split("one folder per engine (")[1].split(")")[0]
    assert set(re.findall(r"`([a-z_]+)`", listed)) == engines
    models = {path.stem for path in (PROJECT_DIR / "models").rglob("*.sql")}
    layers = README.split("## The layers")[1].split("\n## ")[0]
    named = set(re.findall(r"`((?:fact|dim|daily|weekly|parity)_\w+)`", layers))
    served = {name for name in models if not name.startswith(("stg_", "int_"))}
    assert named == served
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page, target)
    for folder in re.findall(r"^\| ((?:`[a-z/]+`(?:, )?)+)", layers, re.MULTILINE):
        for name in re.findall(r"`([a-z/]+)`", folder):
            is_schema = name in ("staging", "curated", "reporting", "metadata")
            assert is_schema or (PROJECT_DIR / name).is_dir(), name


def test_the_steps_of_the_first_start_are_those_of_the_program() -> None:
    steps = re.findall(r"^(\w.*?) \.{3,} [\d.]+ s$", README, re.MULTILINE)
    source = (PROJECT_DIR / "runner/up/serve.py").read_text(encoding="utf-8")
    assert len(steps) == 7
    assert [step for step in steps if f'"{step}"' not in source] == []
    for line in re.findall(r"^  (\w+) +http\S+$", README, re.MULTILINE):
        assert f"\n  {line} " in source


def test_the_answer_is_json_of_the_envelope() -> None:
    answer = json.loads(blocks("json")[0])
    assert list(answer) == ["data", "next_page", "window", "freshness"]
    row = answer["data"][0]
    mart = read_catalogue(PROJECT_DIR).mart("daily_metrics")
    assert set(row) == {column.name for column in mart.columns} - {"organization_id"}


def test_the_engine_and_the_mart_of_the_readme_are_declared_rightly(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    sources, mart = blocks("yaml")[:2]
    view, mart_sql = blocks("sql")[:2]
    folder = project / "models/staging/my_ads"
    folder.mkdir()
    (folder / "_my_ads__sources.yml").write_text(sources)
    (folder / "stg_my_ads__spend.sql").write_text(view)
    names = ["organization_id", "record_key", *re.findall(r" as (\w+),?$", view, re.MULTILINE)]
    columns = [{"name": name, "description": name} for name in names]
    described = {
        "name": "stg_my_ads__spend",
        "description": "One row per account and day.",
        "config": {"meta": {"feed": {"records_from": "report"}}},
        "columns": columns,
    }
    (folder / "_my_ads__models.yml").write_text(yaml.safe_dump({"models": [described]}))
    (project / "models/reporting/daily_spend.sql").write_text(mart_sql)
    types = {"organization_id": "text", "day": "date", "partner_id": "text", "spend": "numeric"}
    contract = [
        {"name": name, "data_type": data_type, "description": name}
        for name, data_type in types.items()
    ]
    text = "models:\n" + re.sub(r"\[\.\.\.\].*", json.dumps(contract), mart)
    (project / "models/reporting/_daily_spend__models.yml").write_text(text)

    catalogue = read_catalogue(project)

    assert [table.name for table in catalogue.engine_tables("my_ads")] == ["report"]
    assert catalogue.mart("daily_spend").path == "daily-spend"


@pytest.fixture
def shell(warehouse: Settings, tmp_path: Path) -> dict[str, str]:
    """An environment in which `oversight` works on a warehouse of the test's own."""
    program = tmp_path / "bin" / "oversight"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m runner.cli "$@"\n')
    program.chmod(0o755)
    return dict(
        os.environ,
        PATH=f"{program.parent}:{os.environ['PATH']}",
        PYTHONPATH=str(PROJECT_DIR),
        OVERSIGHT_DATABASE_URL=admin_dsn(warehouse),
        OVERSIGHT_HOME=str(tmp_path / "home"),
    )


def test_the_round_by_hand_runs(shell: dict[str, str], tmp_path: Path) -> None:
    section = README.split("## A round by hand")[1].split("\n## ")[0]
    (script,) = re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    done = subprocess.run(
        ["sh", "-euxc", "oversight deploy\n" + script],
        cwd=tmp_path,
        env=shell,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs = re.findall(r"run \d+: success, (\d+) rows written or removed", done.stdout)
    assert len(runs) == 2
    assert 0 < int(runs[1]) < int(runs[0])


def test_the_request_of_the_readme_is_one_request_however_often_it_is_sent(
    warehouse: Settings,
) -> None:
    request = next(block for block in blocks("sql") if "insert into metadata.job_requests" in block)
    connection = connect(warehouse, autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute(request)
        cursor.execute(request)
        cursor.execute("select kind, arguments, status from metadata.job_requests")
        assert cursor.fetchall() == [("refresh", {"marts": ["daily_metrics"]}, "pending")]
    connection.close()
