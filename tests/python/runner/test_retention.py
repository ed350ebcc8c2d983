"""Retention: what goes is exported and read back first, and goes by one way only."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from click.testing import CliRunner
from raw_history import FILL, RUNS, SUPERSEDED, TABLE, count, execute, fill

from runner.cli import main
from runner.upkeep import archive, retention
from runner.upkeep.archive import RetentionError
from runner.upkeep.retention import Retired, retire
from warehouse import migrate
from warehouse.database import admin_dsn
from warehouse.settings import Settings


@pytest.fixture
def filled(any_warehouse: Settings, tmp_path: Path) -> Settings:
    """Old and new raw versions, on 18 and on 15."""
    return fill(any_warehouse, tmp_path / "home")


@pytest.fixture
def filled18(warehouse: Settings, tmp_path: Path) -> Settings:
    return fill(warehouse, tmp_path / "home")


def lines(item: Retired) -> list[dict[str, Any]]:
    assert item.file is not None
    with gzip.open(item.file, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


class TestSuperseded:
    def test_old_versions_go_and_the_newest_of_each_record_stays(self, filled: Settings) -> None:
        newest = (
            f"select distinct on (record_key) to_jsonb(t) from {TABLE} as t "
            "order by record_key, record_version desc"
        )
        before, all_rows = execute(filled, newest), count(filled)
        expected = execute(
            filled,
            f"select row_id, row_to_json(t) from {TABLE} as t where batch_id = 1 "
            "and record_version < 5 order by 1",
        )
        (done,) = retire(filled)
        assert (done.table, done.reason, done.rows) == (TABLE, "superseded", SUPERSEDED)
        assert execute(filled, newest) == before
        assert count(filled) == all_rows - SUPERSEDED
        assert lines(done) == [row for _, row in expected]
        assert done.file is not None
        [noted] = execute(
            filled,
            "select table_name, reason, rows, file, bytes, sha256, deleted_at >= exported_at "
            "from metadata.retired",
        )
        content = done.file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        assert noted == (
            TABLE, "superseded", SUPERSEDED, done.file.name, len(content), digest, True,
        )  # fmt: skip
        assert count(filled, "metadata.retiring") == 0
        assert done.file.stat().st_mode & 0o777 == 0o600
        assert done.file.parent.stat().st_mode & 0o777 == 0o700
        assert retire(filled) == []

    def test_values_read_back_to_the_last_digit(self, filled18: Settings) -> None:
        odd = "E'quote \" comma , back \\\\ slash\\ttab\\nline \\x01\\x02 \\u00e9'"
        execute(
            filled18,
            f"insert into {TABLE} (organization_id, record_key, batch_id, record_version, "
            "extracted_at, content_hash, spend_id, spend_amount) "
            "select 'acme', 'odd', 1, v, now(), "
            f"md5('x')::uuid, {odd}, 12345678901234567890.123456789 from generate_series(1, 2) v",
        )
        (done,) = retire(filled18)
        assert done.file is not None
        with gzip.open(done.file, "rt", encoding="utf-8", newline="\n") as stream:
            found = [line for line in stream if '"odd"' in line]
        (row,) = (json.loads(line, parse_float=str) for line in found)
        assert row["spend_id"] == 'quote " comma , back \\ slash\ttab\nline \x01\x02 é'
        assert row["spend_amount"] == "12345678901234567890.123456789"

    def test_a_dry_run_says_the_same_and_changes_nothing(self, filled18: Settings) -> None:
        all_rows = count(filled18)
        (would,) = retire(filled18, dry_run=True)
        assert (would.rows, would.file, would.is_deleted) == (SUPERSEDED, None, False)
        assert count(filled18) == all_rows
        assert count(filled18, "metadata.retired") == 0
        assert not (filled18.home / "archive").exists()
        (done,) = retire(filled18)
        assert done.rows == would.rows

    def test_the_command_prints_the_same_for_programs(
        self, filled18: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OVERSIGHT_DATABASE_URL", admin_dsn_url(filled18))
        monkeypatch.setenv("OVERSIGHT_HOME", str(filled18.home))
        dry = CliRunner().invoke(main, ["retire", "--dry-run"])
        assert f"{TABLE}: {SUPERSEDED} rows would go (superseded, landed before" in dry.stdout
        done = CliRunner().invoke(main, ["retire", "--json"])
        answer = json.loads(done.stdout)
        assert answer["is_dry_run"] is False
        assert answer["retired"][0]["rows"] == SUPERSEDED
        assert answer["retired"][0]["is_deleted"] is True
        assert Path(answer["retired"][0]["file"]).is_file()

    @pytest.mark.parametrize("point", ["rows", "content", "cut"])
    def test_an_export_that_does_not_read_back_deletes_nothing(
        self, filled18: Settings, monkeypatch: pytest.MonkeyPatch, point: str
    ) -> None:
        right = archive.verify

        def damaged(file: Path, key: str, content_sha256: str | None = None) -> int:
            if point == "rows":
                return right(file, key, content_sha256) - 1
            data = bytearray(file.read_bytes())
            if point == "content":
                data[len(data) // 2] ^= 0xFF
            file.write_bytes(data if point == "content" else data[:-20])
            return right(file, key, content_sha256)

        monkeypatch.setattr(archive, "verify", damaged)
        all_rows = count(filled18)
        with pytest.raises(RetentionError, match="nothing was deleted"):
            retire(filled18)
        assert count(filled18) == all_rows
        assert list((filled18.home / "archive").iterdir()) == []
        assert count(filled18, "metadata.retired") == 0


class TestRuns:
    def test_old_runs_go_with_their_counts_unless_something_speaks_of_them(
        self, any_warehouse: Settings, tmp_path: Path
    ) -> None:
        settings = fill(any_warehouse, tmp_path / "home", RUNS)
        execute(
            settings,
            "alter table metadata.job_requests drop constraint job_requests_run_id_fkey, "
            "add foreign key (run_id) references metadata.refresh_log",
        )
        done = {item.table: item.rows for item in retire(settings)}
        assert done == {"metadata.refresh_log": 7, "metadata.refresh_log_model": 14}
        names = execute(settings, "select job_name from metadata.refresh_log order by 1")
        assert [name for (name,) in names] == ["asked for", "leading", "led", "running", "young"]
        assert count(settings, "metadata.refresh_log_model") == 10

    def test_a_request_outlives_its_run(self, warehouse: Settings, tmp_path: Path) -> None:
        settings = fill(warehouse, tmp_path / "home", RUNS)
        done = {item.table: item.rows for item in retire(settings)}
        assert done["metadata.refresh_log"] == 8
        assert execute(settings, "select run_id from metadata.job_requests") == [(None,)]


class TestGuards:
    def test_nobody_deletes_otherwise(self, filled: Settings) -> None:
        for role in (None, "oversight_owner", "oversight_raw", "oversight_loader"):
            for table in (TABLE, "metadata.refresh_log", "metadata.refresh_log_model"):
                for statement in (
                    f"delete from {table}",
                    f"truncate {table} cascade",
                    f"set oversight.retention = 'on'; delete from {table} where true",
                ):
                    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                        execute(filled, statement, role=role)

    def test_only_the_login_that_migrates_may_call_the_way(self, filled: Settings) -> None:
        for role in ("oversight_owner", "oversight_loader", "oversight_reader", "oversight_api"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                execute(filled, "select metadata.retire_rows(1)", role=role)
        for allowed in (None, "oversight_raw"):
            with pytest.raises(psycopg2.errors.NoDataFound):
                execute(filled, "select metadata.retire_rows(1)", role=allowed)
        assert execute(
            filled,
            "select r.rolname, p.prosecdef, p.proconfig from pg_proc as p "
            "join pg_roles as r on r.oid = p.proowner where p.proname = 'retire_rows'",
        ) == [("oversight_retention", True, ["search_path=pg_catalog, pg_temp"])]

    def _export(self, settings: Settings, rows: int, keys: str, reason: str = "superseded") -> None:
        execute(
            settings,
            "insert into metadata.retired (table_name, key_column, reason, before, rows, file, "
            f"bytes, sha256) values ('{TABLE}', 'row_id', '{reason}', '', {rows}, 'f', 0, ''); "
            f"insert into metadata.retiring select 1, row_id from {TABLE} where {keys}",
        )

    def test_it_refuses_the_newest_version_of_a_record(self, filled: Settings) -> None:
        self._export(filled, 1, "record_key = 'acme|1' and record_version = 5")
        with pytest.raises(psycopg2.Error, match=r"1 rows .* are the newest of their records"):
            execute(filled, "select metadata.retire_rows(1)")

    def test_it_refuses_another_count_than_was_exported(self, filled: Settings) -> None:
        self._export(filled, 3, "record_key = 'acme|1' and record_version < 5")
        before = count(filled)
        with pytest.raises(psycopg2.Error, match=r"3 rows .* exported, but 4 would be deleted"):
            execute(filled, "select metadata.retire_rows(1)")
        assert count(filled) == before

    @pytest.mark.parametrize(
        ("table", "key"),
        [
            ("metadata.batches", "batch_id"),
            ("metadata.refresh_log", "lead_run_id"),
            (TABLE, "batch_id"),
            ("staging.rejected_rows", "rejected_row_id"),
            ("staging.stg_spend", "row_id"),
            ("trap", "row_id"),
        ],
    )
    def test_it_deletes_from_no_other_table(self, filled18: Settings, table: str, key: str) -> None:
        execute(
            filled18,
            "set role oversight_owner; create table staging.stg_spend as select 1 as row_id; "
            "grant select, delete on staging.stg_spend to oversight_retention",
        )
        with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="nothing is deleted"):
            execute(
                filled18,
                "create temporary table trap as select 1 as row_id; "
                "insert into metadata.retired (table_name, key_column, reason, before, rows, file, "
                f"bytes, sha256) values ('{table}', '{key}', 'age', '', 1, 'f', 0, ''); "
                "insert into metadata.retiring values (1, 1); select metadata.retire_rows(1)",
            )

    def test_dbts_role_can_not_reach_it_by_a_forged_export(self, filled: Settings) -> None:
        """Neither by a row without a file nor by a table of its own whose trigger deletes."""
        before = count(filled)
        forged = (
            "insert into metadata.retired (table_name, key_column, reason, before, rows, file, "
            "bytes, sha256) values ('{}', 'row_id', 'age', '', 1, '', 0, ''); "
            "insert into metadata.retiring values (1, 1); select metadata.retire_rows(1)"
        )
        trap = (
            "create temporary table trap as select 1::bigint as row_id; "
            "create function pg_temp.spring() returns trigger language plpgsql as "
            f"$$ begin delete from {TABLE}; return old; end $$; "
            "create trigger springs before delete on trap "
            "for each row execute function pg_temp.spring(); "
            "grant all on trap to oversight_retention; "
        )
        for attack in (forged.format(TABLE), trap + forged.format("pg_temp.trap")):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="denied"):
                execute(filled, attack, role="oversight_owner")
        for statement in (
            "update metadata.retired set deleted_at = null",
            "delete from metadata.retired",
            "select from metadata.retiring",
        ):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="denied"):
                execute(filled, statement, role="oversight_owner")
        assert count(filled) == before

    def test_the_trap_springs_for_nobody(self, filled: Settings) -> None:
        """Even the login that migrates gets no trigger of another table run as that role."""
        before = count(filled)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="nothing is deleted"):
            execute(
                filled,
                "create temporary table trap as select 1::bigint as row_id; "
                "create function pg_temp.spring() returns trigger language plpgsql as "
                f"$$ begin delete from {TABLE}; return old; end $$; "
                "create trigger springs before delete on trap "
                "for each row execute function pg_temp.spring(); "
                "grant all on trap to oversight_retention; "
                "grant all on function pg_temp.spring to oversight_retention; "
                "insert into metadata.retired (table_name, key_column, reason, before, rows, file, "
                "bytes, sha256) values ('pg_temp.trap', 'row_id', 'age', '', 1, 'f', 0, ''); "
                "insert into metadata.retiring values (1, 1); select metadata.retire_rows(1)",
            )
        assert count(filled) == before

    def test_one_table_that_fails_is_whole(
        self, filled18: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both exports of a table go in one transaction: what fails second undoes the first."""
        execute(filled18, RUNS)
        before = count(filled18, "metadata.refresh_log_model")
        right = retention._delete

        def sabotaged(connection: Any, pending: Any, run: Any) -> Any:
            for item in pending:
                if item.retired.table == "metadata.refresh_log":
                    execute(filled18, "update metadata.retired set rows = 99 where table_name = "
                                      "'metadata.refresh_log'")  # fmt: skip
            return right(connection, pending, run)

        monkeypatch.setattr(retention, "_delete", sabotaged)
        with pytest.raises(RetentionError, match="99 rows"):
            retire(filled18)
        assert count(filled18, "metadata.refresh_log_model") == before

    def test_the_way_back_leaves_nothing(self, filled: Settings) -> None:
        migrate.rollback(filled, to="0007")
        assert (
            execute(filled, "select from pg_policies where policyname = 'oversight_retention'")
            == []
        )
        migrate.migrate(filled)
        assert len(retire(filled)) == 1


class TestFolder:
    def test_a_home_that_is_no_folder_is_named(self, filled18: Settings, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        before = count(filled18)
        with pytest.raises(RetentionError, match=r"can't export to .*file/archive.*OVERSIGHT_HOME"):
            retire(dataclasses.replace(filled18, home=tmp_path / "file"))
        assert count(filled18) == before

    def test_another_warehouse_with_the_same_home_keeps_its_files(self, filled18: Settings) -> None:
        folder = archive.archive_dir(filled18)
        theirs = (
            folder / "staging.x-superseded-0123456789ab-20260101T000000000000Z.jsonl.gz.partial"
        )
        theirs.write_bytes(b"being written")
        retire(filled18)
        assert theirs.is_file()


class TestUnapplied:
    def test_rows_of_an_unapplied_batch_stay_and_the_model_is_named(
        self, warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = fill(warehouse, tmp_path / "home", FILL)
        execute(settings, "delete from metadata.applied_batches where model = 'daily_metrics'")
        assert retire(settings) == []
        monkeypatch.setenv("OVERSIGHT_DATABASE_URL", admin_dsn_url(settings))
        monkeypatch.setenv("OVERSIGHT_HOME", str(settings.home))
        said = CliRunner().invoke(main, ["retire"]).stdout
        assert "daily_metrics has not taken 2 landed batches, the oldest of 20" in said
        (held,) = json.loads(CliRunner().invoke(main, ["retire", "--json"]).stdout)["held_back"]
        assert (held["model"], held["batches"]) == ("daily_metrics", 2)

    def test_a_model_that_is_gone_holds_nothing_back(
        self, warehouse: Settings, tmp_path: Path
    ) -> None:
        settings = fill(warehouse, tmp_path / "home", FILL)
        execute(
            settings,
            "insert into metadata.applied_batches (model, batch_id) "
            "values ('fact_gone', 2), ('mart_gone', 2), ('other_schema.fact', 2)",
        )
        (done,) = retire(settings)
        assert done.rows == SUPERSEDED
        assert retention.holders(settings) == []

    def test_a_fact_that_exists_holds_back_what_it_has_not_taken(
        self, warehouse: Settings, tmp_path: Path
    ) -> None:
        settings = fill(warehouse, tmp_path / "home", FILL)
        execute(
            settings,
            "create table curated.fact_more (day date); "
            "insert into metadata.applied_batches (model, batch_id) values ('fact_more', 2)",
        )
        assert retire(settings) == []
        assert [item.model for item in retention.holders(settings)] == ["fact_more"]


def admin_dsn_url(settings: Settings) -> str:
    assert settings.database_url is not None
    assert admin_dsn(settings) == settings.database_url
    return settings.database_url
