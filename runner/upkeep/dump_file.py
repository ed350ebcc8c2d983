"""A backup file and the manifest beside it: what it holds, and whether it is whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runner.upkeep.contents import Contents, TableContent
from runner.upkeep.programs import BackupError, Child, newest_programs

_CHUNK_BYTES = 1 << 20
_DUMPED = re.compile(r"^;\s+Dumped (from database|by pg_dump) version: (\d+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What lies beside a backup file as `<file>.json`; times are ISO texts in UTC."""

    sha256: str
    bytes: int
    taken_at: str
    instance_id: str
    tables: Contents
    proved_at: str | None = None

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(content.rows for content in self.tables.values())


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The table of contents of a dump, and the major versions of server and pg_dump."""

    text: str
    server: int
    program: int


def manifest_path(file: Path) -> Path:
    """Where the manifest of a backup lies."""
    return file.with_name(f"{file.name}.json")


def write_manifest(file: Path, manifest: Manifest) -> None:
    """Write it in one step, readable by its owner alone."""
    path = manifest_path(file)
    partial = path.with_name(f"{path.name}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump(dataclasses.asdict(manifest), stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_manifest(file: Path) -> Manifest | None:
    """The manifest, None where there is none; BackupError when it can't be read."""
    path = manifest_path(file)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["tables"] = {
            name: TableContent(**table) for name, table in content["tables"].items()
        }
        return Manifest(**content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(
            f"{path} can't be read ({error}); restore it from where the backup came from, or "
            "remove it to do without its checks"
        ) from error


def sha256_of(file: Path) -> str:
    """The file's SHA-256 as hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def check_file(file: Path, manifest: Manifest | None) -> Listing:
    """Read the whole file; BackupError when a byte of it is not as it was written.

    Without a manifest only what pg_restore itself notices is found: a cut file, a broken block.
    """
    if not file.is_file():
        raise BackupError(f"there is no backup file {file}; `ls` its folder and name one of them")
    if manifest is not None and sha256_of(file) != manifest.sha256:
        raise BackupError(
            f"{file} is damaged: its SHA-256 is not that of its manifest "
            f"({file.stat().st_size} bytes now, {manifest.bytes} when it was written); "
            "nothing was changed, use another backup"
        )
    program = newest_programs().path("pg_restore")
    read = subprocess.run([program, "--list", str(file)], capture_output=True, check=False)
    text = read.stdout.decode(errors="replace")
    versions = dict(_DUMPED.findall(text))
    if read.returncode != 0 or len(versions) < 2:
        reason = " ".join(read.stderr.decode(errors="replace").split())
        raise BackupError(f"{file} is no backup that pg_restore can read ({reason}); use another")
    child = Child([program, "--file", os.devnull, str(file)], dict(os.environ))
    try:
        if child.wait() != 0:
            raise BackupError(
                f"{file} is damaged: {child.complaint()}; nothing was changed, use another backup"
            )
    finally:
        child.end()
    return Listing(
        text=text,
        server=int(versions["from database"]),
        program=int(versions["by pg_dump"]),
    )
