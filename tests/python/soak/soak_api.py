"""The API at 200 requests/s for ten minutes on two cores while refreshes go on.

Run by `make soak` (SOAK_SECONDS=60 for a look) on a machine that does nothing else: errors are 0,
the 95th percentile is below 25 ms, and every answer is what some version of the mart held, never
an older one than its connection has seen. Waits count from when a request was due. Then `hey`,
where it is installed, says the same in its own words.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from api_warehouse import ApiWarehouse, served_by
from built import BuiltWarehouse
from loaded import load_during_refreshes

SECONDS = int(os.environ.get("SOAK_SECONDS", "600"))
RATE = 200
MOST_MS = 25
_HEY_SECONDS = min(60, SECONDS)
_CONNECTIONS = 8


def test_200_requests_a_second_while_refreshes_go_on(built: BuiltWarehouse, tmp_path: Path) -> None:
    warehouse = ApiWarehouse(settings=served_by(built.cluster, built.settings))
    outcome, refreshes = load_during_refreshes(
        built, warehouse, tmp_path, rate=RATE, seconds=SECONDS, also=ask_by_hey
    )
    assert outcome.requests == RATE * SECONDS
    assert refreshes > SECONDS / 20
    assert outcome.p95 < MOST_MS


def ask_by_hey(address: str, key: str, question: str) -> None:
    """The same rate on one question by a load program of others."""
    if shutil.which("hey") is None:
        sys.stdout.write("\nSKIPPED: the same asked by hey, which is not installed\n")
        return
    done = subprocess.run(
        [
            "hey", "-z", f"{_HEY_SECONDS}s", "-c", str(_CONNECTIONS),
            "-q", str(RATE // _CONNECTIONS),
            "-H", f"Authorization: Bearer {key}", address + question,
        ],
        check=True, capture_output=True, text=True, timeout=_HEY_SECONDS + 60,
    )  # fmt: skip
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"Requests/sec|\d+% in|\[\d+\]|Error", line)]
    sys.stdout.write(f"\nhey, {RATE} requests/s for {_HEY_SECONDS} s: {'; '.join(told)}\n")
    assert [line for line in told if line.startswith("[")] == [
        line for line in told if line.startswith("[200]")
    ]
    assert "Error distribution:" not in lines
