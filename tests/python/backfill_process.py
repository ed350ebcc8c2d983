"""A process that runs a backfill and kills itself at a named point, if one is named.

Arguments: backfill, point or `-`. It asks for each refresh by a line on standard output and waits
for an answer, so that its tests need not start dbt; then it says how often it pulled.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import date, timedelta
from typing import Any
from unittest.mock import patch

from backfills import FakeEngine

import runner.landing.ledger as books
import runner.landing.load as landing
from runner.backfill import ledger
from runner.backfill.backfill import Steps, run_backfill
from runner.runs.log import logged_run
from warehouse.settings import load_settings

WEEKS = [date(2026, 1, 5) + timedelta(days=7 * number) for number in range(3)]
AT = WEEKS[1]
POINTS = ("asked", "landing", "landed", "written", "refreshed", "done", "all done")


def main(backfill_id: int, point: str) -> None:
    settings = load_settings()
    engine = FakeEngine()

    def reach(name: str) -> None:
        if name == point and (name == "all done" or engine.asked[-1] == AT):
            say(f"reached {point}")
            os.kill(os.getpid(), signal.SIGKILL if point != "frozen" else signal.SIGSTOP)

    def before(_monday: date) -> None:
        reach("asked")
        reach("frozen")

    def refresh(*_: Any) -> None:
        reach("written")
        say("refresh")
        sys.stdin.readline()
        reach("refreshed")

    def show(now: ledger.Progress) -> None:
        if now.running_week is None and now.weeks_done == 2:
            reach("done")

    close_batch, finish = books.close_batch, ledger.finish

    def closing(*arguments: Any) -> None:
        close_batch(*arguments)
        reach("landing")

    def finishing(*arguments: Any) -> str:
        reach("all done")
        return finish(*arguments)

    engine.before, engine.after = before, lambda _: reach("landed")
    patch.object(landing, "close_batch", closing).start()
    patch.object(ledger, "finish", finishing).start()
    with logged_run(settings, f"backfill in process {os.getpid()}") as run:
        run_backfill(
            settings,
            backfill_id,
            run,
            steps=Steps(pull=engine.pull, refresh=refresh),
            on_progress=show,
        )
    say(f"pulled {len(engine.asked)}")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
