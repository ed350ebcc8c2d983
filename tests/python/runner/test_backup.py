"""Backups: proved by restoring them, rotated, cleaned up after, and restored anywhere."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import raw_history
from psycopg2 import errors
from terminals import on_pipe, on_terminal

from clusters import Cluster, start_cluster, stop_cluster
from runner.upkeep import backup as backups
from runner.upkeep.backup import back_up, backup_dir
from runner.upkeep.contents import Contents, set_session, table_content, table_names
from runner.upkeep.dump_file import read_manifest, write_manifest
from runner.upkeep.programs import BackupError, address
from runner.upkeep.restore import restore
from runner.upkeep.retention import retire
from warehouse import database, migrate
from warehouse.catalogue import read_catalogue
from warehouse.raw_tables import ensure_raw_tables
from warehouse.settings import Settings

FILL = """
    insert into metadata.batches (engine, status, path) values ('oversight', 'landed', '/data');
    insert into metadata.principals (name, key_sha256, role, scope)
        values ('reader', sha256('x'), 'reader', '{"organization": ["*"]}');
    insert into metadata.refresh_log (job_name) values ('refresh daily_metrics');
    insert into metadata.job_requests (kind, status, run_id)
        select 'refresh', 'running', run_id from metadata.refresh_log;
    insert into metadata.jobs (job_name, kind, cadence, clock)
        values ('daily_metrics', 'refresh', '0 * * * *', 'pg_cron');
    insert into staging.oversight__spend
        (organization_id, record_key, batch_id, extracted_at, content_hash, spend_id, spend_amount)
        select 'acme', 'acme|' || n, 1, now(), md5(n::text)::uuid, n::text, n * 1.10
        from generate_series(1, 1000) as n;
"""


def execute(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    connection = database.connect(settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description is not None else []
    finally:
        connection.close()


def contents(settings: Settings) -> Contents:
    connection = database.connect(settings)
    try:
        with connection.cursor() as cursor:
            set_session(cursor)
            return {
                f"{schema}.{name}": table_content(cursor, schema, name)
                for schema, name in table_names(cursor)
            }
    finally:
        connection.close()


def fill(settings: Settings, statement: str = FILL) -> None:
    connection = database.connect(settings)
    ensure_raw_tables(connection, read_catalogue(settings.project_dir).sources)
    connection.close()
    execute(settings, statement)


def at_home(settings: Settings, home: Path) -> Settings:
    return dataclasses.replace(settings, home=home)


def stem(file: Path) -> str:
    """What the names of all backups of one warehouse begin with."""
    return file.name.rpartition("-")[0]


def yes(_where: str) -> bool:
    return True


@pytest.fixture
def filled(any_warehouse: Settings, tmp_path: Path) -> Settings:
    """A warehouse with some rows, on 18 and on 15, with a home folder of its own."""
    fill(any_warehouse)
    return at_home(any_warehouse, tmp_path / "home")


@pytest.fixture
def filled18(warehouse: Settings, tmp_path: Path) -> Settings:
    fill(warehouse)
    return at_home(warehouse, tmp_path / "home")


@pytest.fixture
def elsewhere(server: Cluster) -> Iterator[tuple[Cluster, Settings]]:
    """An empty database of a login with CREATEROLE alone, on another server of each version."""
    other = start_cluster(server.version)
    assert other is not None
    other.run("create role plain login createrole createdb")
    yield other, other.settings_for(other.create_database(owner="plain"), "plain")
    stop_cluster(other)


class TestTaking:
    def test_a_backup_is_private_proved_and_noted(self, filled: Settings) -> None:
        done = back_up(filled)
        assert done.file.parent.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in done.file.parent.iterdir()} == {0o600}
        manifest = read_manifest(done.file)
        assert manifest is not None
        assert manifest.tables["staging.oversight__spend"].rows == 1000
        [row] = execute(
            filled,
            "select file, bytes, sha256, proved_at is not null, tables, rows, error "
            "from metadata.backups",
        )
        assert row == (
            done.file.name, done.file.stat().st_size, done.sha256, True, done.tables, done.rows,
            None,
        )  # fmt: skip
        assert execute(filled, "select from pg_database where datname ~ '^oversight_proof'") == []

    def test_the_newest_seven_that_are_proved_stay(self, filled18: Settings) -> None:
        first = back_up(filled18)
        manifest = read_manifest(first.file)
        assert manifest is not None
        for day in range(10, 18):
            name = f"{stem(first.file)}-202501{day}T000000000000Z.dump"
            (first.file.parent / name).write_bytes(b"x")
            is_proved = day != 17
            write_manifest(
                first.file.parent / name,
                manifest if is_proved else dataclasses.replace(manifest, proved_at=None),
            )
        last = back_up(filled18)
        kept = sorted(path.name for path in backup_dir(filled18).glob("*.dump"))
        assert kept[-2:] == [first.file.name, last.file.name]
        assert [name[-27:-19] for name in kept[:-2]] == [f"202501{day}" for day in range(12, 17)]
        assert len(list(backup_dir(filled18).iterdir())) == 14

    def test_two_warehouses_with_one_home_leave_each_others_files(
        self, filled18: Settings, server18: Cluster
    ) -> None:
        mine = back_up(filled18).file
        partial = mine.with_name(f"{mine.name}.partial")
        partial.write_bytes(b"being written")
        other = at_home(server18.migrated_database(), filled18.home)
        theirs = [back_up(other).file for _ in range(8)]
        assert mine.is_file()
        assert partial.is_file()
        assert [file.is_file() for file in theirs] == [False] + [True] * 7
        back_up(filled18)
        assert not partial.exists(), "its own left-over goes"
        assert all(file.is_file() for file in theirs[1:])

    def test_backups_that_are_not_proved_do_not_pile_up(
        self, filled18: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proved = back_up(filled18)

        def fail(*_arguments: object, **_options: object) -> None:
            raise BackupError("no proof")

        monkeypatch.setattr(backups, "replay", fail)
        for _ in range(3):
            with pytest.raises(BackupError, match="no proof"):
                back_up(filled18)
        files = sorted(path.name for path in backup_dir(filled18).glob("*.dump"))
        newest = execute(filled18, "select file from metadata.backups order by backup_id desc")
        assert files == [proved.file.name, newest[0][0]]

    def test_a_login_that_may_not_create_databases_is_told_before_the_dump(
        self, filled18: Settings, server18: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backups, "Child", None)
        execute(filled18, "create role poor login; grant oversight_owner to poor")
        name = Cluster.name_of(filled18)
        poor = at_home(server18.settings_for(name, "poor"), filled18.home)
        execute(filled18, "alter role poor inherit; grant pg_read_all_data to poor; "
                          "create policy poor on metadata.instance to poor using (true); "
                          "create policy poor on metadata.backups to poor using (true); "
                          "grant all on metadata.backups to poor")  # fmt: skip
        with pytest.raises(
            BackupError, match=r'the login poor may not.*alter role "poor" createdb'
        ):
            back_up(poor)
        assert list(backup_dir(poor).iterdir()) == []
        execute(filled18, "drop owned by poor; drop role poor")

    def test_a_home_that_is_no_folder_is_named(self, filled18: Settings, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(BackupError, match=r"can't write to .*file/backups.*OVERSIGHT_HOME"):
            back_up(at_home(filled18, tmp_path / "file"))

    def test_a_proof_that_differs_is_an_error_and_says_where(
        self, filled18: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right = table_content

        def wrong(cursor: Any, schema: str, name: str) -> Any:
            found = right(cursor, schema, name)
            if name == "oversight__spend":
                return dataclasses.replace(found, checksum="1")
            return found

        monkeypatch.setattr(backups, "table_content", wrong)
        with pytest.raises(BackupError, match=r"not proved.*staging\.oversight__spend differs"):
            back_up(filled18)
        [(proved_at, error)] = execute(filled18, "select proved_at, error from metadata.backups")
        assert proved_at is None
        assert "differs" in error
        assert execute(filled18, "select from pg_database where datname ~ '^oversight_proof'") == []

    def test_programs_that_are_too_old_are_named(
        self, filled18: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr("runner.upkeep.programs.server.bin_dir", lambda: Path("/nowhere"))
        with pytest.raises(BackupError, match=r"PostgreSQL 18 or newer.*found: none.*PATH"):
            back_up(filled18)

    def test_a_table_that_is_swapped_meanwhile_is_in_it_once(self, filled18: Settings) -> None:
        swap = database.connect(filled18)
        with swap.cursor() as cursor:
            cursor.execute(
                "alter table staging.oversight__spend rename to oversight__spend__old; "
                "create table staging.oversight__spend as "
                "select * from staging.oversight__spend__old limit 10; "
                "drop table staging.oversight__spend__old"
            )
        taken: list[backups.Backup] = []
        thread = threading.Thread(target=lambda: taken.append(back_up(filled18)))
        thread.start()
        waiting = "select 1 from pg_locks where not granted and mode = 'AccessShareLock'"
        for _ in range(300):
            if execute(filled18, waiting):
                break
            time.sleep(0.1)
        assert execute(filled18, waiting), "the backup does not wait for the swap"
        swap.commit()
        swap.close()
        thread.join(60)
        manifest = read_manifest(taken[0].file)
        assert manifest is not None
        assert manifest.tables["staging.oversight__spend"].rows == 10

    def test_two_at_once_are_refused(self, filled18: Settings) -> None:
        connection = database.connect(filled18, autocommit=True)
        with connection.cursor() as cursor:
            cursor.execute(backups._LOCK)
        with pytest.raises(BackupError, match="another backup"):
            back_up(filled18)
        connection.close()


def test_the_programs_get_what_the_login_needs_and_nothing_that_changes_a_session(
    warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"PGPASSWORD": "p", "PGPASSFILE": "/f", "PGSSLMODE": "require", "PGSSLROOTCERT": "/c"}
    for name, value in {**kept, "PGOPTIONS": "-c x=y", "PGTZ": "Europe/Berlin"}.items():
        monkeypatch.setenv(name, value)
    _, environment = address(warehouse)
    assert {name: value for name, value in environment.items() if name.startswith("PG")} == {
        **kept, "PGTZ": "UTC",
    }  # fmt: skip


class TestRestoring:
    def test_not_while_a_runner_leads(self, filled18: Settings) -> None:
        done = back_up(filled18)
        execute(
            filled18,
            "update metadata.leadership set runner = 'box:1', heartbeat_at = now() - "
            "interval '5 seconds'",
        )
        before = contents(filled18)
        with pytest.raises(BackupError, match=r"runner box:1 leads .*stop `oversight schedule`"):
            restore(filled18, done.file, may_replace=yes)
        assert contents(filled18) == before
        execute(
            filled18, "update metadata.leadership set heartbeat_at = now() - interval '20 seconds'"
        )
        restore(filled18, done.file, may_replace=yes)

    def test_on_another_server_as_a_plain_login(
        self, filled: Settings, elsewhere: tuple[Cluster, Settings]
    ) -> None:
        other = elsewhere[1]
        done = back_up(filled)
        before = contents(filled)
        restored = restore(other, done.file, may_replace=lambda _where: False)
        after = contents(other)
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {
            f"metadata.{name}"
            for name in ("instance", "refresh_log", "job_requests", "jobs", "leadership", "backups")
        }
        assert not restored.is_same_instance
        assert execute(other, "select status, error_message from metadata.refresh_log") == [
            ("abandoned", "it was running when the backup was taken")
        ]
        assert execute(other, "select status, run_id from metadata.job_requests") == [
            ("pending", None)
        ]
        cluster, name = elsewhere[0], Cluster.name_of(other)
        migrated = other.database_url
        assert migrated
        fresh = cluster.settings_for(cluster.create_database(owner="plain"), "plain")
        migrate.migrate(fresh)
        connection = database.connect(fresh)
        ensure_raw_tables(connection, read_catalogue(fresh.project_dir).sources)
        connection.close()
        assert _sorted(cluster.dump(name)) == _sorted(cluster.dump(Cluster.name_of(fresh)))
        assert migrate.pending(other) == []
        # this login, which is no superuser, may have retired rows deleted
        with pytest.raises(errors.NoDataFound):
            execute(other, "select metadata.retire_rows(0)")
        history = raw_history.fill(fresh, filled.home / "fresh")
        (retired,) = retire(history)
        assert (retired.rows, retired.is_deleted) == (raw_history.SUPERSEDED, True)
        # nobody is left in the role that may delete
        [(count,)] = execute(
            other,
            "select count(*) from pg_auth_members where roleid = 'oversight_retention'::regrole"
            " and not admin_option",
        )
        assert count == 0
        # and this login, which is no superuser, sees every row when it takes one itself
        again = read_manifest(back_up(at_home(other, filled.home / "there")).file)
        assert again is not None
        assert again.tables["staging.oversight__spend"] == before["staging.oversight__spend"]

    def test_a_newer_server_takes_an_older_backup_and_not_the_other_way(
        self, filled: Settings, server18: Cluster
    ) -> None:
        done = back_up(filled)
        newer = server18.migrated_database()
        restore(newer, done.file, may_replace=yes)
        rows = "select count(*), sum(spend_amount) from staging.oversight__spend"
        assert execute(newer, rows) == execute(filled, rows)

    def test_in_place_it_stays_the_same_warehouse(self, filled18: Settings) -> None:
        done = back_up(filled18)
        instance = "select instance_id from metadata.instance"
        before = execute(filled18, instance)
        execute(
            filled18,
            "insert into metadata.batches (engine, status, path) values ('x', 'landed', '')",
        )
        assert restore(filled18, done.file, may_replace=yes).is_same_instance
        assert execute(filled18, instance) == before
        assert execute(filled18, "select count(*) from metadata.batches") == [(1,)]

    def test_what_holds_data_is_asked_for_first(self, filled18: Settings) -> None:
        done = back_up(filled18)
        before = contents(filled18)
        with pytest.raises(BackupError, match="--yes"):
            restore(filled18, done.file, may_replace=lambda _where: False)
        assert contents(filled18) == before

    def test_a_damaged_file_is_found_before_anything_changes(
        self, filled18: Settings, tmp_path: Path
    ) -> None:
        done = back_up(filled18)
        data = done.file.read_bytes()
        flipped = bytearray(data)
        flipped[data.index(b"\x78\x9c", len(data) // 2) + 40] ^= 0xFF
        before = contents(filled18)
        damages = {
            "cut": data[: len(data) * 2 // 3],
            "flipped": bytes(flipped),
            "empty": b"",
            "text": b"select 1;\n",
        }
        for damage, content in damages.items():
            file = tmp_path / f"{damage}.dump"
            file.write_bytes(content)
            for has_manifest in (False, True):
                if has_manifest:
                    manifest = done.file.with_name(f"{done.file.name}.json").read_bytes()
                    file.with_name(f"{file.name}.json").write_bytes(manifest)
                says = "SHA-256" if has_manifest else "is damaged|no backup that pg_restore"
                with pytest.raises(BackupError, match=says):
                    restore(filled18, file, may_replace=yes)
        assert contents(filled18) == before

    def test_rows_that_differ_from_the_manifest_roll_everything_back(
        self, filled18: Settings
    ) -> None:
        done = back_up(filled18)
        manifest = read_manifest(done.file)
        assert manifest is not None
        table = "staging.oversight__spend"
        wrong = dataclasses.replace(manifest.tables[table], rows=999)
        write_manifest(
            done.file, dataclasses.replace(manifest, tables={**manifest.tables, table: wrong})
        )
        execute(
            filled18,
            "insert into metadata.batches (engine, status, path) values ('x', 'landed', '')",
        )
        before = contents(filled18)
        with pytest.raises(BackupError, match=r"spend differs.*999"):
            restore(filled18, done.file, may_replace=yes)
        assert contents(filled18) == before

    def test_a_backup_of_a_newer_oversight_is_refused(self, filled18: Settings) -> None:
        execute(
            filled18,
            "insert into metadata._yoyo_migration (migration_hash, migration_id) "
            "values ('x', '9999.later')",
        )
        done = back_up(filled18)
        with pytest.raises(BackupError, match=r"newer Oversight \(migrations 9999\.later\)"):
            restore(filled18, done.file, may_replace=yes)


def _sorted(dump: str) -> list[str]:
    """Lines of a schema dump: grants to one role come in the order in which they were given."""
    return sorted(line for line in dump.splitlines() if not line.startswith("--"))


def test_the_password_is_not_on_the_command_line(tmp_path: Path) -> None:
    from runner.upkeep.programs import address

    settings = Settings(
        project_dir=tmp_path, home=tmp_path, database_url="postgresql://me:secret@host/name"
    )
    dsn, environment = address(settings, "other")
    assert "secret" not in dsn
    assert "dbname=other" in dsn
    assert environment["PGPASSWORD"] == "secret"
    assert os.environ.get("PGPASSWORD") is None


class TestOnTheCommandLine:
    @pytest.fixture(autouse=True)
    def _environment(self, filled18: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OVERSIGHT_DATABASE_URL", str(filled18.database_url))
        monkeypatch.setenv("OVERSIGHT_HOME", str(filled18.home))

    def test_a_terminal_gets_bars_and_standard_output_the_result(self, filled18: Settings) -> None:
        done = on_terminal("db", "backup")
        assert done.status == 0
        assert "━" in done.terminal
        assert "reading" in done.terminal
        assert "restoring" in done.terminal
        (file,) = backup_dir(filled18).glob("*.dump")
        assert done.output.startswith(f"{file}: ")
        back = on_terminal("db", "restore", str(file), "--yes")
        assert (back.status, "restoring" in back.terminal) == (0, True)
        assert back.output.startswith("restored: ")

    def test_a_restored_warehouse_has_a_clock_on_any_server(self, filled18: Settings) -> None:
        done = back_up(filled18)
        restore(filled18, done.file, may_replace=yes)
        assert execute(filled18, "select clock from metadata.jobs") == [("runner",)]

    def test_json_is_the_backup_as_it_is_noted(self, filled18: Settings) -> None:
        done = on_pipe("db", "backup", "--json")
        assert done.returncode == 0
        assert "\x1b" not in done.stderr
        answer = json.loads(done.stdout)
        assert Path(answer["file"]).stat().st_size == answer["bytes"]
        noted = execute(filled18, "select file, bytes, sha256, tables, rows from metadata.backups")
        assert noted == [
            (Path(answer["file"]).name, *(answer[k] for k in ("bytes", "sha256", "tables", "rows")))
        ]

    def test_with_json_a_failure_is_an_object(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OVERSIGHT_DATABASE_URL", "postgresql://postgres@/none?host=/nowhere")
        done = on_pipe("db", "backup", "--json")
        assert (done.returncode, done.stderr) == (1, "")
        assert "can't reach the database" in json.loads(done.stdout)["error"]
