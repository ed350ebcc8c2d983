"""A real daemon that kills itself when it comes to a named point: `dying_daemon.py POINT`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import runner.runs.ending
import runner.runs.log
import runner.runs.opening
import runner.runs.refresh
import runner.schedule.daemon
import runner.schedule.jobs
import runner.schedule.work
from runner.runs.warm_dbt import Dbt
from warehouse.settings import load_settings

Function = Callable[..., Any]


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(function: Function) -> Function:
    def called(*arguments: Any, **options: Any) -> None:
        function(*arguments, **options)
        die()

    return called


POINTS: dict[str, tuple[Any, str, Function]] = {
    "as the new leader": (runner.schedule.daemon, "sync_jobs", die),
    "missed slots written": (
        runner.schedule.daemon,
        "write_missed",
        after(runner.schedule.jobs.write_missed),
    ),
    "before the row": (runner.runs.log, "open_rows", die),
    "after the row": (runner.runs.log, "open_rows", after(runner.runs.opening.open_rows)),
    "dbt starts": (Dbt, "start", die),
    "marts committed": (runner.runs.refresh, "_check_written", die),
    "before the end is written": (runner.runs.log, "close_rows", die),
    "after the end is written": (
        runner.runs.log,
        "close_rows",
        after(runner.runs.ending.close_rows),
    ),
    "never": (runner.schedule.daemon, "TICK_SECONDS", lambda: None),
}


if __name__ == "__main__":
    place, name, function = POINTS[sys.argv[1]]
    if sys.argv[1] != "never":
        setattr(place, name, function)
    runner.schedule.daemon.schedule(load_settings())
