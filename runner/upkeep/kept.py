"""Which files of backups and exports are this warehouse's own, and which of them stay.

Several warehouses may share a home folder, so each touches only files that bear its mark.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from psycopg2.extensions import cursor as Cursor

from runner.upkeep.dump_file import manifest_path, read_manifest
from runner.upkeep.programs import BackupError

KEPT = 7


def instance_mark(cursor: Cursor) -> str:
    """What the names of this warehouse's files hold: the beginning of its identity."""
    cursor.execute("select left(replace(instance_id::text, '-', ''), 12) from metadata.instance")
    (mark,) = cursor.fetchone() or ("",)
    return str(mark)


def private_folder(folder: Path) -> Path:
    """The folder, made readable by its owner alone; OSError when it can't be."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} is not writable")
    return folder


def rotate(folder: Path, mark: str) -> None:
    """Keep the newest seven that are proved, and the newest of all.

    So what was never proved goes once anything newer is there.
    """
    files = sorted(folder.glob(f"oversight-{mark}-*.dump"), reverse=True)
    kept = {*files[:1], *[file for file in files if _is_proved(file)][:KEPT]}
    with contextlib.suppress(OSError):
        for file in set(files) - kept:
            file.unlink(missing_ok=True)
            manifest_path(file).unlink(missing_ok=True)


def _is_proved(file: Path) -> bool:
    try:
        manifest = read_manifest(file)
    except BackupError:
        return False
    return manifest is not None and manifest.proved_at is not None
