"""Backups and retention that are killed or meet a full disk: nothing is half done.

Each fault is put into a process of its own, and each test proves that it landed.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from raw_history import DAY, RUNS, SUPERSEDED, TABLE, count, execute, fill

from clusters import PROJECT_DIR
from runner.upkeep.backup import back_up, backup_dir
from runner.upkeep.retention import retire
from warehouse import database
from warehouse.catalogue import _store, read_catalogue
from warehouse.settings import Settings

_PATIENCE_SECONDS = 60

# Stops at a named point of the program, says so, and waits to be killed.
STOP = """
import sys, time
def stop():
    print('landed', flush=True)
    time.sleep(600)
"""
RETIRE = """
from runner.upkeep import archive, retention
from warehouse.settings import load_settings
{fault}
retention.retire(load_settings())
"""
BACKUP = """
from runner.upkeep import backup
from warehouse.settings import load_settings
{fault}
backup.back_up(load_settings())
"""
IN_EXPORT = """
archive.verify = lambda *arguments: stop()
"""
BETWEEN = """
retention._delete = lambda connection, pending, run: stop() if pending else []
"""
IN_DELETION = """
class Cursor:
    def __init__(self, cursor): self.cursor = cursor
    def __enter__(self): self.cursor.__enter__(); return self
    def __exit__(self, *arguments): return self.cursor.__exit__(*arguments)
    def execute(self, statement, *arguments):
        self.cursor.execute(statement, *arguments)
        if 'retire_rows' in str(statement): stop()
class Connection:
    def __init__(self, connection): self.connection = connection
    def __enter__(self): self.connection.__enter__()
    def __exit__(self, *arguments): return self.connection.__exit__(*arguments)
    def cursor(self): return Cursor(self.connection.cursor())
delete = retention._delete
retention._delete = lambda connection, pending, run: delete(Connection(connection), pending, run)
"""
IN_DUMP = """
backup._contents = lambda *arguments: stop()
"""
IN_PROOF = """
backup.replay = lambda *arguments, **options: stop()
"""
FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
"""


@pytest.fixture
def filled(warehouse: Settings, tmp_path: Path) -> Settings:
    settings = fill(warehouse, tmp_path / "home")
    execute(settings, RUNS)
    return settings


def start(settings: Settings, script: str, fault: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STOP + script.format(fault=fault)],
        cwd=PROJECT_DIR,
        env={
            "OVERSIGHT_DATABASE_URL": str(settings.database_url),
            "OVERSIGHT_HOME": str(settings.home),
            "PYTHONPATH": str(PROJECT_DIR),
            "PATH": os.environ["PATH"],
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_at(settings: Settings, script: str, fault: str) -> None:
    """Kill the process with SIGKILL once it says that it has come to the fault."""
    process = start(settings, script, fault)
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any(line == "landed\n" for line in lines), process.communicate()[1]
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    _wait_until_alone(settings)


def _wait_until_alone(settings: Settings) -> None:
    """Until the server has noticed that its client is gone."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    query = (
        "select from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid() and backend_type = 'client backend'"
    )
    while execute(settings, query):
        assert time.monotonic() < deadline, "a connection of the killed process stays"
        time.sleep(0.1)


def sizes(settings: Settings) -> dict[str, int]:
    tables = (TABLE, "metadata.refresh_log", "metadata.refresh_log_model")
    return {table: count(settings, table) for table in tables}


def proofs(settings: Settings) -> int:
    return len(execute(settings, "select from pg_database where datname ~ '^oversight_proof_'"))


@pytest.mark.parametrize("fault", [IN_EXPORT, BETWEEN, IN_DELETION], ids=["in the export",
                         "between export and deletion", "in the deletion"])  # fmt: skip
def test_killed_retention_deletes_nothing_and_the_next_run_all(
    filled: Settings, fault: str
) -> None:
    before = sizes(filled)
    kill_at(filled, RETIRE, fault)
    assert sizes(filled) == before
    exports = {path.name for path in (filled.home / "archive").glob("*.jsonl.gz")}
    done = retire(filled)
    gone = {item.table: item.rows for item in done}
    assert gone == {
        TABLE: SUPERSEDED, "metadata.refresh_log": 8, "metadata.refresh_log_model": 16,
    }  # fmt: skip
    assert all(item.is_deleted for item in done)
    assert sizes(filled) == {table: before[table] - gone[table] for table in before}
    assert count(filled, "metadata.retired") == 3
    assert count(filled, "metadata.retiring") == 0
    files = {path.name for path in (filled.home / "archive").iterdir()}
    assert exports <= files, "an export that was whole was made again"
    assert len(files) == 3
    assert bool(exports) == (fault != IN_EXPORT)


def test_an_export_that_is_damaged_meanwhile_is_made_again(filled: Settings) -> None:
    kill_at(filled, RETIRE, BETWEEN)
    (file,) = (filled.home / "archive").glob("*superseded*")
    file.write_bytes(file.read_bytes()[:-10])
    before = count(filled)
    (done,) = (item for item in retire(filled) if item.table == TABLE)
    assert done.file != file
    assert done.rows == SUPERSEDED == before - count(filled)


@pytest.mark.parametrize("kept", [None, 120 * DAY], ids=["no rule", "kept for longer"])
def test_an_export_that_nothing_declares_any_more_is_not_deleted(
    filled: Settings, kept: int | None
) -> None:
    kill_at(filled, RETIRE, BETWEEN)
    before = sizes(filled)
    catalogue = read_catalogue(filled.project_dir)
    sources = tuple(
        dataclasses.replace(source, superseded_kept_seconds=kept) for source in catalogue.sources
    )
    connection = database.connect(filled, role="oversight_owner")
    with connection:
        _store(connection, dataclasses.replace(catalogue, retention={}, sources=sources))
    connection.close()
    assert count(filled, "metadata.retired") > 0, "the fault did not land"
    assert retire(filled) == []
    assert sizes(filled) == before
    assert count(filled, "metadata.retired") == 0


def test_an_export_whose_rows_are_mentioned_meanwhile_is_made_again(filled: Settings) -> None:
    kill_at(filled, RETIRE, BETWEEN.replace("if pending", "if len(pending) == 2"))
    execute(
        filled,
        "create table metadata.mention as select run_id from metadata.refresh_log "
        "where job_name = 'old' limit 1; alter table metadata.mention "
        "add foreign key (run_id) references metadata.refresh_log; "
        "grant select on metadata.mention to oversight_owner",
    )
    done = {item.table: item.rows for item in retire(filled)}
    assert (done["metadata.refresh_log"], done["metadata.refresh_log_model"]) == (7, 14)
    assert count(filled, "metadata.mention") == 1


@pytest.mark.parametrize("fault", [IN_DUMP, IN_PROOF], ids=["in the dump", "in the proof"])
def test_a_killed_backup_leaves_nothing_after_the_next(filled: Settings, fault: str) -> None:
    kill_at(filled, BACKUP, fault)
    if fault == IN_PROOF:
        assert proofs(filled) == 1
    else:
        assert list(backup_dir(filled).glob("*.partial"))
    done = back_up(filled)
    assert proofs(filled) == 0
    assert sorted(path.name for path in backup_dir(filled).iterdir()) == [
        done.file.name, f"{done.file.name}.json",
    ]  # fmt: skip
    assert execute(
        filled, "select error, proved_at is not null from metadata.backups order by backup_id"
    ) == [("it was interrupted", False), (None, True)]


class TestFullDisk:
    def _run(self, settings: Settings, script: str) -> str:
        process = start(settings, script, FULL_DISK)
        _, errors = process.communicate(timeout=_PATIENCE_SECONDS)
        assert process.returncode == 1, errors
        return errors

    def test_no_export_and_nothing_deleted(self, filled: Settings) -> None:
        before = sizes(filled)
        errors = self._run(filled, RETIRE)
        assert "File too large" in errors, "the fault did not land"
        assert "RetentionError: can't export staging.oversight__spend to" in errors
        assert sizes(filled) == before
        assert list((filled.home / "archive").iterdir()) == []
        assert count(filled, "metadata.retired") == 0

    def test_no_backup_and_no_part_of_one(self, filled: Settings) -> None:
        errors = self._run(filled, BACKUP)
        assert f"signal {signal.SIGXFSZ.value}" in errors, "the fault did not land"
        assert "BackupError: no backup was taken" in errors
        assert list(backup_dir(filled).iterdir()) == []
        [(error,)] = execute(filled, "select error from metadata.backups")
        assert "no backup was taken" in error
