"""The command line: help that is quick and shows an example, errors that are one line."""

import json
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from clusters import PROJECT_DIR
from runner.cli import main
from warehouse.errors import OversightError

HEAVY = ("dbt", "duckdb", "psycopg2", "flask", "apscheduler", "granian", "sqlalchemy", "yoyo")


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS = sorted(_commands(main))


def test_the_commands_of_the_design_are_there() -> None:
    expected = {"up", "deploy", "load", "refresh", "schedule", "serve", "simulate", "openapi"}
    assert expected <= {path[0] for path in COMMANDS}
    for name in ("start", "stop", "url", "migrate", "rollback"):
        assert ("db", name) in COMMANDS
    for name in ("create", "list", "revoke"):
        assert ("key", name) in COMMANDS


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"oversight {' '.join(path)}" in result.output


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom runner.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT_DIR, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr.strip() == "[]"


def test_an_error_is_one_line_and_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_settings: object) -> None:
        raise OversightError("the disk is full; make room")

    monkeypatch.setattr("warehouse.server.start", fail)
    result = CliRunner().invoke(main, ["db", "start"])
    assert result.exit_code == 1
    assert result.stderr == "error: the disk is full; make room\n"


def test_with_json_every_error_is_an_object_on_standard_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OVERSIGHT_DATABASE_URL", "postgresql://someone:secret@127.0.0.1:1/there")
    result = CliRunner().invoke(main, ["load", "--path", "/nowhere", "--json"])
    assert (result.exit_code, result.stderr) == (1, "")
    answer = json.loads(result.stdout)
    assert list(answer) == ["error"]
    assert answer["error"].startswith("can't reach the database")
    wrong = CliRunner().invoke(main, ["load", "--paht", "/nowhere", "--json"])
    assert (wrong.exit_code, wrong.stderr) == (2, "")
    assert "--paht" in json.loads(wrong.stdout)["error"]
    plain = CliRunner().invoke(main, ["load", "--paht", "/nowhere"])
    assert (plain.exit_code, plain.stdout) == (2, "")


def test_the_embedded_server_is_not_started_beside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERSIGHT_DATABASE_URL", "postgresql://someone@127.0.0.1:1/there")
    for action in ("start", "stop"):
        result = CliRunner().invoke(main, ["db", action])
        assert result.exit_code == 1
        assert "OVERSIGHT_DATABASE_URL is set" in result.stderr


def test_an_unreachable_database_is_an_error_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OVERSIGHT_DATABASE_URL", "postgresql://someone:secret@127.0.0.1:1/there")
    result = CliRunner().invoke(main, ["db", "migrate"])
    assert result.exit_code == 1
    assert "can't reach the database" in result.stderr
    assert "secret" not in result.output + result.stderr
