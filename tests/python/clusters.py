"""Temporary PostgreSQL servers of the tests' own, and fresh migrated databases on them."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import parse_dsn
from psycopg2.sql import SQL, Identifier

from warehouse import database, migrate, server
from warehouse.settings import Settings

PROJECT_DIR = Path(__file__).resolve().parents[2]
_TEMPLATE = "template_migrated"
_FAST = ("fsync", "synchronous_commit", "full_page_writes")
_OLD_SERVER = "15"
_ROOM_FOR_A_SERVER = 512 * 1024 * 1024
_OWN_SERVERS: set[int] = set()


@dataclass(kw_only=True)
class Cluster:
    """One temporary server; `settings` reaches its database `oversight` as superuser."""

    version: str
    programs: Path
    settings: Settings
    folder: Path
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _has_template: bool = False

    def settings_for(self, name: str, user: str = "postgres") -> Settings:
        """Settings of any database here, as any login."""
        host = quote(str(self.settings.home / "run"), safe="")
        return replace(
            self.settings, database_url=f"postgresql://{user}@/{name}?host={host}&port=5432"
        )

    @staticmethod
    def name_of(settings: Settings) -> str:
        """The name of the database that settings reach."""
        return str(parse_dsn(database.admin_dsn(settings))["dbname"])

    def connect(self, name: str = "postgres", user: str = "postgres") -> Connection:
        """An autocommit connection."""
        settings = self.settings_for(name, user)
        assert_own_server(settings)
        return database.connect(settings, autocommit=True)

    def run(self, statement: str, name: str = "postgres", user: str = "postgres") -> None:
        """Run SQL on its own connection."""
        connection = self.connect(name, user)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def create_database(self, *, owner: str = "postgres", template: str = "template1") -> str:
        """A new database; gives back its name."""
        name = f"test_{next(self._numbers)}"
        self.run(f'create database {name} template {template} owner "{owner}"')
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database whoever is connected to it."""
        self.run(f"drop database if exists {name} with (force)")

    def migrated_database(self) -> Settings:
        """A fresh migrated warehouse, cloned in tens of milliseconds."""
        if not self._has_template:
            self.run(f"create database {_TEMPLATE}")
            migrate.migrate(self.settings_for(_TEMPLATE))
            self._has_template = True
        name = self.create_database(template=_TEMPLATE)
        settings = self.settings_for(name)
        # A clone takes neither the database's own grants and settings nor should it its identity.
        self.run(
            f"""
            grant create, temporary, connect on database {name}
                to oversight_owner, oversight_raw, oversight_loader;
            grant connect on database {name} to oversight_api, oversight_analyst;
            alter database {name} set client_connection_check_interval = '1s';
            alter database {name} set timezone = 'UTC';
            update metadata.instance set instance_id = '{uuid.uuid4()}'
            """,
            name=name,
        )
        return settings

    def dump(self, name: str) -> str:
        """The schema of a database as SQL, without what differs from run to run."""
        done = subprocess.run(
            [
                str(self.programs / "pg_dump"), "--schema-only",
                "--dbname", database.admin_dsn(self.settings_for(name)),
            ],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return re.sub(r"^\\(un)?restrict .*$", "", done.stdout, flags=re.MULTILINE)


def start_cluster(version: str, parent: Path | None = None) -> Cluster | None:
    """Start a server in a new folder below `parent` or /tmp; None where its programs are missing.

    The path of `parent` has to be short.
    """
    programs = server.bin_dir() if version == "18" else find_programs()
    if programs is None:
        return None
    with _undisturbed() as interruptions:
        folder = make_folder(parent)
        settings = Settings(project_dir=PROJECT_DIR, home=folder / "home")
        cluster = Cluster(version=version, programs=programs, settings=settings, folder=folder)
        try:
            server.start(settings, programs=programs)
            _OWN_SERVERS.add(_identifier(settings))
            _make_fast(cluster)
        except BaseException:
            stop_cluster(cluster)
            raise
        if interruptions:
            stop_cluster(cluster)
            raise KeyboardInterrupt
    return cluster


def _make_fast(cluster: Cluster) -> None:
    """Nothing here has to outlive a power cut."""
    connection = cluster.connect()
    try:
        with connection.cursor() as cursor:
            for name in _FAST:
                cursor.execute(SQL("alter system set {} = off").format(Identifier(name)))
            cursor.execute("select pg_reload_conf()")
    finally:
        connection.close()


@contextmanager
def _undisturbed() -> Iterator[list[int]]:
    """Note signals that end a session, so that a server is either started or not."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {
        number: signal.signal(number, lambda number, _frame: noted.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_folder(parent: Path | None = None) -> Path:
    """A new folder with a short path that the server's user may enter, whoever runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="ov-test-", dir=parent))
    folder.chmod(0o711)
    return folder


def memory_disk() -> Path | None:
    """Where many small servers are made quickly, if there is room for one."""
    path = Path("/dev/shm")
    if not os.access(path, os.W_OK) or shutil.disk_usage(path).free < _ROOM_FOR_A_SERVER:
        return None
    return path


def stop_cluster(cluster: Cluster) -> None:
    """Stop the server and remove all that it left."""
    try:
        server.stop(cluster.settings, programs=cluster.programs)
    finally:
        shutil.rmtree(cluster.folder, ignore_errors=True)


def find_programs() -> Path | None:
    """The bin folder of an installed PostgreSQL 15, wherever its package puts it."""
    candidates = [Path(f"/usr/lib/postgresql/{_OLD_SERVER}/bin")]
    for command in (["pg_config", "--bindir"], ["sh", "-c", "dirname $(command -v postgres)"]):
        candidates.extend(Path(line) for line in _output(command).splitlines() if line)
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            version = _output([str(folder / "postgres"), "--version"])
            if f" {_OLD_SERVER}." in version:
                return folder
    return None


def assert_own_server(settings: Settings) -> None:
    """Stop the test before it changes anything on a server that the tests did not start."""
    identifier = _identifier(settings)
    assert identifier in _OWN_SERVERS, (
        f"a test reached {database.describe(database.admin_dsn(settings))}, "
        "which is not a server of the tests' own"
    )


def _identifier(settings: Settings) -> int:
    """What initdb gave the cluster; no two have the same."""
    connection = database.connect(settings)
    try:
        with connection.cursor() as cursor:
            cursor.execute("select system_identifier from pg_control_system()")
            row = cursor.fetchone()
            assert row is not None
            return int(row[0])
    finally:
        connection.close()


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, check=False, env=dict(os.environ)
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
