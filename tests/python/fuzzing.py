"""schemathesis against `oversight serve`: every check, as an administrator, by the document."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from administration import deploy_with_engines
from api_warehouse import ApiWarehouse
from server_process import ServerProcess

_HOOKS = Path(__file__).with_name("fuzz_hooks.py")
_CASES = re.compile(r"(\d+) generated")
_GRACE_SECONDS = 120
_NO_LIMIT = "standard=1000000/second"


@dataclass(frozen=True, kw_only=True)
class Fuzzed:
    """How a run ended; `report` is what schemathesis says, findings included."""

    status: int
    cases: int
    report: str


def fuzz(warehouse: ApiWarehouse, folder: Path, *, seconds: int) -> Fuzzed:
    """Ask in all ways for so many seconds, also as sequences of requests that follow each other."""
    deploy_with_engines(warehouse)
    key = warehouse.key("fuzzing", "admin", organization=["*"])
    server = ServerProcess(warehouse, folder / "log", OVERSIGHT_RATE_LIMITS=_NO_LIMIT)
    try:
        server.wait_until_ready()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run"),
                f"http://127.0.0.1:{server.port}/openapi.json",
                *("--header", f"Authorization: Bearer {key}"),
                *("--checks", "all", "--continue-on-failure", "--max-time", str(seconds)),
                *("--request-timeout", "30", "--no-color"),
            ],
            cwd=folder,
            env=os.environ | {"SCHEMATHESIS_HOOKS": str(_HOOKS)},
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + _GRACE_SECONDS,
        )
    finally:
        server.stop()
    report = done.stdout + done.stderr
    cases = _CASES.search(report)
    return Fuzzed(status=done.returncode, cases=int(cases.group(1)) if cases else 0, report=report)
