"""Running dbt: the one place that knows how this project calls it, and against which server."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from psycopg2.extensions import parse_dsn

from warehouse.database import admin_dsn, connect
from warehouse.settings import Settings

IDLE_SECONDS = 30
"""How long a session of dbt may hold its locks and do nothing; dbt itself needs milliseconds."""
_LIBPQ = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
}


def target(settings: Settings) -> str:
    """The target of profiles.yml that writes what is served."""
    return "embedded" if settings.is_embedded else "prod"


def environment(
    settings: Settings, *, run_id: int | None = None, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What dbt's process sees: our server and no other, however the caller's shell is set.

    `run_id` is the open row of metadata.refresh_log; without it, dbt leaves a `manual` row.
    """
    taken = {*_LIBPQ.values(), "PGSERVICE", "PGHOSTADDR", "PGOPTIONS", "OVERSIGHT_RUN_ID"}
    found = {name: value for name, value in environ.items() if name not in taken}
    found |= {
        "PWD": str(settings.project_dir),
        "OVERSIGHT_HOME": str(settings.home),
        "OVERSIGHT_INSTANCE": instance_id(settings),
        "DBT_PROFILES_DIR": str(settings.project_dir),
        "DBT_PROJECT_DIR": str(settings.project_dir),
        "DBT_LOG_PATH": str(settings.home / "logs"),
    }
    parts = parse_dsn(admin_dsn(settings))
    options = [
        str(parts.get("options", "")),
        # A session whose dbt was killed ends by itself, and one whose dbt is frozen lets go.
        "-c client_connection_check_interval=1s",
        f"-c idle_in_transaction_session_timeout={IDLE_SECONDS}s",
    ]
    found["PGOPTIONS"] = " ".join(options).strip()
    if not settings.is_embedded:
        found |= {_LIBPQ[name]: str(value) for name, value in parts.items() if name in _LIBPQ}
    if run_id is not None:
        found["OVERSIGHT_RUN_ID"] = str(run_id)
    return found


def instance_id(settings: Settings) -> str:
    """The identity of the warehouse that these settings reach."""
    connection = connect(settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute("select instance_id::text from metadata.instance")
            return str(cursor.fetchone()[0])  # type: ignore[index]
    finally:
        connection.close()


def run(
    settings: Settings, *arguments: str, target_path: Path, run_id: int | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run dbt to its end, output captured as text; artifacts go to `target_path`."""
    command = [
        *(sys.executable, "-m", "dbt.cli.main", *arguments),
        *("--target", target(settings), "--target-path", str(target_path)),
    ]
    return subprocess.run(
        command,
        cwd=settings.project_dir,
        env=environment(settings, run_id=run_id),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
