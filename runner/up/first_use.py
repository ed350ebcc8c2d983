"""What a warehouse has to have once before it can serve: raw tables, keys, something to show."""

import hashlib
import os
import secrets
from datetime import datetime, timedelta, timezone
from pathlib import Path

from psycopg2.extensions import connection as Connection

from runner.landing.load import engine_folders, load_engine
from runner.simulation.simulate import Simulation, simulate
from warehouse import database
from warehouse.catalogue import Catalogue
from warehouse.errors import OversightError
from warehouse.keys import create_key
from warehouse.raw_tables import ensure_raw_tables
from warehouse.settings import Settings

DEMO_DAYS = 60
DEMO_ROWS = 20_000
READER = "reader of oversight up"


def make_home(settings: Settings) -> None:
    """Make the home folder and its folder of logs; an OversightError says what to do."""
    # Only as root has another user, the server's, to pass through it.
    home_mode = 0o711 if os.geteuid() == 0 else 0o700
    for folder, mode in ((settings.home, home_mode), (settings.home / "logs", 0o700)):
        try:
            if not folder.exists():
                folder.mkdir(parents=True, mode=mode)
            (folder / ".writable").touch()
            (folder / ".writable").unlink()
        except OSError as error:
            raise OversightError(
                f"can't write to {folder}: {error.strerror}; make it writable, or set "
                "OVERSIGHT_HOME to a folder that is"
            ) from error


def make_signing_key(settings: Settings) -> None:
    """Make the key that signs page tokens, unless the environment or the home folder has one."""
    if settings.signing_key is None and not settings.signing_key_path.exists():
        write_private(settings.signing_key_path, secrets.token_urlsafe(48))


def make_raw_tables(settings: Settings, catalogue: Catalogue) -> list[str]:
    """Make and extend the raw tables of all declared sources; gives back what was done."""
    connection = database.connect(settings)
    try:
        return ensure_raw_tables(connection, catalogue.sources)
    finally:
        connection.close()


def has_batches(settings: Settings) -> bool:
    """Whether anything was ever landed; rejected batches don't count."""
    connection = database.connect(settings, autocommit=True)
    try:
        return _exists(connection, "select from metadata.batches where status = 'landed'")
    finally:
        connection.close()


def simulate_demo(settings: Settings) -> Path:
    """Write extracts of the last two months into the home folder, unless they are there."""
    folder = settings.home / "demo"
    yesterday = datetime.now(timezone.utc).date() - timedelta(days=1)
    if not (folder / "oversight").exists():
        simulate(
            Simulation(
                path=folder,
                first_day=yesterday - timedelta(days=DEMO_DAYS - 1),
                last_day=yesterday,
                rows=DEMO_ROWS,
                organizations=1,
            )
        )
    return folder


def load_all(settings: Settings, catalogue: Catalogue, folder: Path) -> None:
    """Land every engine's extracts in a folder; an OversightError when a batch is rejected."""
    for engine, path in engine_folders(folder, catalogue, None).items():
        report = load_engine(settings, catalogue, engine, path)
        if report.error is not None:
            raise OversightError(f"the extracts of {engine} in {path} can't land: {report.error}")


def reader_key(settings: Settings) -> str:
    """The ready-made key of this home folder; made anew when the database doesn't know it."""
    path = settings.home / "reader.key"
    connection = database.connect(settings)
    try:
        if path.exists():
            key = path.read_text(encoding="ascii").strip()
            if _exists(
                connection,
                "select from metadata.principals where key_sha256 = %s and revoked_at is null "
                "and (expires_at is null or expires_at > now())",
                hashlib.sha256(key.encode()).digest(),
            ):
                return key
        name = READER
        if _exists(connection, "select from metadata.principals where name = %s", name):
            name = f"{READER} {datetime.now(timezone.utc):%Y-%m-%d %H.%M.%S}"
        key = create_key(connection, name=name, role="reader", scope={"organization": ["*"]})
        write_private(path, key)
        connection.commit()
        return key
    finally:
        connection.close()


def write_private(path: Path, text: str) -> None:
    """Write a secret that only its owner may read; never half of one."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
    partial.replace(path)


def _exists(connection: Connection, query: str, *values: object) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"select exists ({query})", values)
        row = cursor.fetchone()
        return bool(row and row[0])
