"""Ends of runs that could not be written: kept in the home folder until the database is back."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import structlog
from psycopg2.extensions import connection as Connection

from runner.runs.ending import Ending, close_rows
from warehouse.settings import Settings

log = structlog.get_logger("oversight.runs")


def keep(settings: Settings, ending: Ending) -> Path:
    """Write an ending to disk, whole or not at all; gives back where."""
    folder = settings.home / "spool"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"run-{ending.instance_id}-{min(ending.run_ids.values())}.json"
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(dataclasses.asdict(ending), file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return path


def write_back(settings: Settings, connection: Connection) -> int:
    """Write what was kept for this warehouse and remove it; gives back how many rows were closed.

    A row that another runner closed meanwhile stays as it is.
    """
    if not (settings.home / "spool").is_dir():
        return 0
    with connection.cursor() as cursor:
        cursor.execute("select instance_id::text from metadata.instance")
        row = cursor.fetchone()
    closed = 0
    for path in sorted((settings.home / "spool").glob(f"run-{row[0] if row else '-'}-*.json")):
        try:
            ending = Ending(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            # Another run has just written it back.
            continue
        except (OSError, ValueError, TypeError) as error:
            log.error("an unreadable end of a run was put aside", path=str(path), error=str(error))
            path.replace(path.with_suffix(".unreadable"))
            continue
        closed += close_rows(connection, ending)
        path.unlink(missing_ok=True)
    return closed
