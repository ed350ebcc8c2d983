"""`oversight key` and `oversight openapi`, as a person types them."""

import json
import subprocess
import sys

import pytest
from backfills import deploy
from click.testing import CliRunner, Result

from clusters import PROJECT_DIR
from runner.cli import main
from warehouse.catalogue import read_catalogue
from warehouse.database import connect
from warehouse.settings import Settings


@pytest.fixture
def oversight(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> "Command":
    """The command line on a warehouse of its own."""
    assert warehouse.database_url
    monkeypatch.setenv("OVERSIGHT_DATABASE_URL", warehouse.database_url)
    return Command()


class Command:
    """Runs one command after another."""

    def __call__(self, *arguments: str) -> Result:
        """`oversight ARGUMENTS`."""
        return CliRunner().invoke(main, arguments)


def test_a_key_is_made_shown_once_listed_and_revoked(oversight: Command) -> None:
    assert "no keys; make one" in oversight("key", "list").output
    made = oversight("key", "create", "dashboard", "--organization", "default", "--expires", "30d")
    assert made.exit_code == 0, made.output
    assert made.output.startswith("ov_")
    assert len(made.output.strip()) == 46
    listed = oversight("key", "list").output
    assert made.output.strip() not in listed
    assert listed.startswith(
        "dashboard  reader  standard  organization=default partner=*  expires 20"
    )
    assert listed.rstrip().endswith("unused")
    assert oversight("key", "revoke", "dashboard").output == "revoked dashboard\n"
    assert "revoked" in oversight("key", "list").output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("create", "x"), "needs at least one organization"),
        (("create", "x", "--organization", "a,b"), "the organization id 'a,b' is refused"),
        (("create", "x", "--organization", "a", "--partner", '{"'), "the partner id"),
        (("create", "x", "--organization", "a", "--expires", "soon"), "write 30d, 12h or 30m"),
        (("create", "x", "--organization", "a", "--expires", "0d"), "write 30d, 12h or 30m"),
        (("create", "x{}", "--organization", "a"), "the name 'x{}' is refused"),
        (("create", "x", "--organization", "a", "--expires", "30d "), "write 30d, 12h or 30m"),
        (("rotate", "nobody"), "no key named 'nobody' is in force"),
        (("rotate", "nobody", "--overlap", "soon"), "--overlap 'soon' is no duration"),
        (("revoke", "nobody"), "no key named 'nobody' is in force"),
        (("revoke",), "give the name of a key or --session JTI, and not both"),
        (("revoke", "nobody", "--session", "x"), "and not both"),
        (("revoke", "--session", "a b"), "'a b' is no id of a session"),
    ],
)
def test_a_mistake_says_what_to_do(
    oversight: Command, arguments: tuple[str, ...], says: str
) -> None:
    failed = oversight("key", *arguments)
    assert failed.exit_code == 1
    assert failed.output.startswith("error: ")
    assert says in failed.output


def test_a_key_is_replaced_under_its_name(oversight: Command) -> None:
    first = oversight(
        "key", "create", "ci", "--organization", "a", "--tier", "enterprise", "--json"
    )
    assert set(json.loads(first.output)) == {"name", "key"}
    second = oversight("key", "rotate", "ci", "--overlap", "1h", "--expires", "30d", "--json")
    assert json.loads(second.output)["name"] == "ci"
    assert json.loads(second.output)["key"] != json.loads(first.output)["key"]
    (line,) = oversight("key", "list").output.splitlines()
    assert line.startswith("ci  reader  enterprise  organization=a ")
    assert "  expires 20" in line
    assert "  old key until 20" in line
    (listed,) = json.loads(oversight("key", "list", "--json").output)["keys"]
    assert (listed["tier"], listed["scope"]["organization"]) == ("enterprise", ["a"])
    assert listed["rotated_at"].endswith("Z")
    assert oversight("key", "rotate", "ci").output.startswith("ov_")
    assert "old key" not in oversight("key", "list").output
    assert oversight("key", "revoke", "ci").exit_code == 0
    assert "is in force" in oversight("key", "rotate", "ci").output


def test_a_session_is_ended_by_its_id_and_forgotten_when_it_would_have_ended(
    oversight: Command, warehouse: Settings
) -> None:
    for jti in ("one", "one", "two"):
        assert oversight("key", "revoke", "--session", jti).output == f"revoked session {jti}\n"
    connection = connect(warehouse, autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute("update metadata.revoked_sessions set until = now() where jti = 'one'")
        assert oversight("key", "revoke", "--session", "three").exit_code == 0
        cursor.execute("select jti from metadata.revoked_sessions order by 1")
        assert cursor.fetchall() == [("three",), ("two",)]
    connection.close()


def test_a_key_of_an_organization_that_nobody_knows_is_made_with_a_warning(
    oversight: Command, warehouse: Settings
) -> None:
    deploy(warehouse, read_catalogue(PROJECT_DIR))
    made = oversight(
        "key", "create", "odd", "--organization", "nosuch", "--organization", "default", "--json"
    )
    assert made.exit_code == 0, made.output
    assert set(json.loads(made.stdout)) == {"name", "key"}
    assert "warning: nothing has landed of an organization 'nosuch'" in made.stderr
    assert "'default'" not in made.stderr
    assert oversight("key", "create", "all", "--organization", "*").stderr == ""
    connection = connect(warehouse, autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into metadata.batches (engine, status, path)"
            " values ('oversight', 'landed', '');"
            " insert into metadata.batch_tables"
            " (batch_id, engine, source_table, organization_id, extracted_through)"
            " select batch_id, engine, 'spend', 'nosuch', now() from metadata.batches"
        )
    connection.close()
    assert oversight("key", "create", "landed", "--organization", "nosuch").stderr == ""


def test_a_name_is_taken_once(oversight: Command) -> None:
    assert oversight("key", "create", "twice", "--organization", "*").exit_code == 0
    again = oversight("key", "create", "twice", "--organization", "*")
    assert again.exit_code == 1
    assert "exists already" in again.output


def test_openapi_prints_the_committed_description() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner.cli", "openapi"],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "/api/reporting/v1/daily-metrics" in json.loads(done.stdout)["paths"]
    committed = (PROJECT_DIR / "api" / "openapi.json").read_text(encoding="utf-8")
    assert done.stdout == committed, "run `oversight openapi > api/openapi.json`"
