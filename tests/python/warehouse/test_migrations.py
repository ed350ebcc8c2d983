"""The way up and the way down, on filled tables, for a superuser and for a plain login."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from clusters import PROJECT_DIR, Cluster, start_cluster, stop_cluster
from warehouse import database, migrate
from warehouse.errors import MigrationError
from warehouse.settings import Settings

SCHEMAS = ("staging", "curated", "reporting", "metadata")
FILL = """
    insert into metadata.batches (engine, status, path) values ('oversight', 'landed', '/data');
    insert into metadata.batch_tables
        (batch_id, engine, source_table, organization_id, extracted_through)
        select batch_id, engine, 'spend', 'default', now() from metadata.batches;
    insert into metadata.applied_batches (model, batch_id)
        select 'fact_spend', batch_id from metadata.batches;
    insert into metadata.changes (model) values ('fact_spend');
    insert into metadata.touched_keys select change_id, 'default', '{"a": 1}' from metadata.changes;
    insert into metadata.principals (name, key_sha256, role, scope)
        values ('reader', sha256('x'), 'reader', '{"organization": ["*"]}');
    insert into staging.rejected_rows (batch_id, engine, source_table, file_name, reasons)
        select batch_id, engine, 'spend', 'spend.csv', '{bad}' from metadata.batches;
    create table staging.oversight__spend (row_id bigint);
    alter table staging.oversight__spend owner to oversight_raw;
    insert into staging.oversight__spend values (1);
"""


@pytest.fixture(scope="module", params=["superuser", "plain login"])
def login(request: pytest.FixtureRequest, server: Cluster) -> Iterator[tuple[Cluster, str]]:
    """A server where one login made the roles: postgres, or one with CREATEROLE alone."""
    if request.param == "superuser":
        yield server, "postgres"
        return
    own = start_cluster(server.version)
    assert own is not None
    own.run("create role plain login createrole")
    yield own, "plain"
    stop_cluster(own)


@pytest.fixture
def owned(login: tuple[Cluster, str]) -> Settings:
    """An empty database that the login owns."""
    cluster, user = login
    return cluster.settings_for(cluster.create_database(owner=user), user)


def _execute(settings: Settings, statement: str) -> list[tuple[object, ...]]:
    connection = database.connect(settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description is not None else []
    finally:
        connection.close()


def _names(server: Cluster) -> list[tuple[object, ...]]:
    return _execute(
        server.settings, "select rolname from pg_roles where rolname ~ '^oversight_' order by 1"
    )


class TestUpAndDown:
    def test_up_down_up_on_filled_tables_gives_the_same_schema(
        self, login: tuple[Cluster, str], owned: Settings
    ) -> None:
        server, name = login[0], Cluster.name_of(owned)
        applied = migrate.migrate(owned)
        assert applied, "nothing was migrated"
        first = server.dump(name)
        _execute(owned, FILL)
        assert migrate.rollback(owned) == applied[::-1]
        down = server.dump(name)
        assert migrate.migrate(owned) == applied
        assert server.dump(name) == first
        assert not re.findall(r"CREATE (?:TABLE|VIEW|FUNCTION) (?!metadata\._yoyo)\S+", down)
        assert "oversight_" not in down, "something still names a role"

    def test_every_single_step_down_and_up_gives_the_same_schema(
        self, login: tuple[Cluster, str], owned: Settings
    ) -> None:
        server, name = login[0], Cluster.name_of(owned)
        applied = migrate.migrate(owned)
        first = server.dump(name)
        for step in reversed(range(len(applied) - 1)):
            assert migrate.rollback(owned, to=applied[step]) == applied[:step:-1]
            assert migrate.pending(owned) == applied[step + 1 :]
            migrate.migrate(owned)
            assert server.dump(name) == first, f"after rolling back to {applied[step]}"

    def test_migrating_again_changes_nothing(
        self, login: tuple[Cluster, str], owned: Settings
    ) -> None:
        server = login[0]
        migrate.migrate(owned)
        first = server.dump(Cluster.name_of(owned))
        assert migrate.migrate(owned) == []
        assert server.dump(Cluster.name_of(owned)) == first

    def test_every_migration_has_its_way_back(self) -> None:
        ways = {path.name for path in migrate.MIGRATIONS_DIR.glob("*.sql")}
        up = {name for name in ways if not name.endswith(".rollback.sql")}
        assert up
        assert ways - up == {name.replace(".sql", ".rollback.sql") for name in up}


class TestTogether:
    def test_two_that_migrate_at_once_apply_everything_once(self, server: Cluster) -> None:
        settings = server.settings_for(server.create_database())
        script = (
            "from warehouse import migrate, settings\n"
            "print(len(migrate.migrate(settings.load_settings())))"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script],
                cwd=PROJECT_DIR,
                env={"OVERSIGHT_DATABASE_URL": str(settings.database_url), "PATH": "/usr/bin:/bin"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        answers = [process.communicate(timeout=60) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], answers
        counts = sorted(int(out.splitlines()[-1]) for out, _ in answers)
        assert counts == [
            0,
            len(_execute(settings, "select migration_id from metadata._yoyo_migration")),
        ]

    def test_every_session_of_the_database_gets_the_guards(self, server: Cluster) -> None:
        settings = server.settings_for(server.create_database())
        migrate.migrate(settings)
        guards = _execute(
            settings,
            "select unnest(setconfig) from pg_db_role_setting as s "
            "join pg_database as d on d.oid = s.setdatabase "
            "where d.datname = current_database() and s.setrole = 0",
        )
        assert {text for (text,) in guards} == {
            "client_connection_check_interval=1s",
            "TimeZone=UTC",
        }


class TestRoles:
    def test_rollback_keeps_the_roles_that_another_database_uses(
        self, login: tuple[Cluster, str], owned: Settings
    ) -> None:
        server, user = login
        other = server.settings_for(server.create_database(owner=user), user)
        migrate.migrate(other)
        before = _names(server)
        migrate.migrate(owned)
        migrate.rollback(owned)
        assert _names(server) == before
        assert _execute(other, "set role oversight_owner; select count(*) from metadata.batches")

    def test_an_unknown_target_is_named(self, owned: Settings) -> None:
        migrate.migrate(owned)
        with pytest.raises(MigrationError, match="9999 is not an applied migration"):
            migrate.rollback(owned, to="9999")


def test_every_table_of_the_four_schemas_has_row_level_security(any_warehouse: Settings) -> None:
    tables = _execute(
        any_warehouse,
        f"""
        select c.oid::regclass::text, c.relrowsecurity,
            (select count(*) from pg_policy as p where p.polrelid = c.oid)
        from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname in {SCHEMAS} and c.relkind in ('r', 'p', 'm', 'f')
        """,
    )
    assert len(tables) > 20
    assert [row for row in tables if not row[1] or row[2] == 0] == []


class TestKilled:
    """A migrating process that dies leaves all of a migration or nothing, and no lock."""

    SLOW = "select pg_sleep(60); create table metadata.after_sleep (a int);"

    @pytest.fixture
    def slow_migrations(self, tmp_path: Path) -> Path:
        folder = tmp_path / "migrations"
        folder.mkdir()
        for path in migrate.MIGRATIONS_DIR.glob("*.sql"):
            (folder / path.name).write_text(path.read_text())
        (folder / "9000.slow.sql").write_text(
            "-- depends: 0003.access\ncreate table metadata.before_sleep (a int);\n" + self.SLOW
        )
        (folder / "9000.slow.rollback.sql").write_text(
            "drop table metadata.before_sleep; drop table metadata.after_sleep;"
        )
        return folder

    def test_a_kill_in_a_migration_leaves_it_recoverable(
        self, server: Cluster, slow_migrations: Path
    ) -> None:
        settings = server.settings_for(server.create_database())
        script = (
            "import sys; from pathlib import Path; from warehouse import migrate, settings\n"
            "migrate.migrate(settings.load_settings(), Path(sys.argv[1]))"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(slow_migrations)],
            cwd=PROJECT_DIR,
            env={"OVERSIGHT_DATABASE_URL": str(settings.database_url), "PATH": "/usr/bin:/bin"},
        )
        try:
            self._wait_for_sleep(settings, is_there=True)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._wait_for_sleep(settings, is_there=False)
        assert migrate.pending(settings, slow_migrations) == ["9000.slow"]
        slow = slow_migrations / "9000.slow.sql"
        slow.write_text(slow.read_text().replace("60", "0"))
        assert migrate.migrate(settings, slow_migrations) == ["9000.slow"]

    def test_a_failing_migration_changes_nothing(
        self, server: Cluster, slow_migrations: Path
    ) -> None:
        settings = server.settings_for(server.create_database())
        slow = slow_migrations / "9000.slow.sql"
        slow.write_text(slow.read_text().replace("pg_sleep(60)", "1 / 0"))
        with pytest.raises(MigrationError, match="division by zero"):
            migrate.migrate(settings, slow_migrations)
        assert migrate.pending(settings, slow_migrations) == ["9000.slow"]
        with pytest.raises(psycopg2.errors.UndefinedTable):
            _execute(settings, "select * from metadata.before_sleep")

    @staticmethod
    def _wait_for_sleep(settings: Settings, *, is_there: bool) -> None:
        """Within three times the bound: an orphan ends a second or so after its client."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            [(count,)] = _execute(
                settings,
                "select count(*) from pg_stat_activity where datname = current_database() "
                "and state = 'active' and query like 'select pg_sleep(60)%'",
            )
            if bool(count) == is_there:
                return
            time.sleep(0.1)
        pytest.fail(f"pg_sleep running: expected {is_there}")
