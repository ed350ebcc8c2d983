"""`oversight serve` as a process of a test's own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from api_warehouse import SIGNING_KEY, ApiWarehouse

from clusters import PROJECT_DIR

START_SECONDS = 30
STOP_SECONDS = 30


class ServerProcess:
    """`oversight serve`, as the process that it becomes."""

    def __init__(
        self,
        warehouse: ApiWarehouse,
        log: Path,
        *,
        stderr: int | None = None,
        **environment: str,
    ) -> None:
        """Its output goes to the file `log`; `stderr` may be another place for its errors."""
        self.port = free_port()
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "runner.cli", "serve"],
                cwd=PROJECT_DIR,
                env=environment_of(warehouse, self.port) | environment,
                stdout=errors,
                stderr=errors if stderr is None else stderr,
            )

    def get(self, path: str, key: str | None = None) -> tuple[int, Any]:
        """Status and JSON body of a GET."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def text(self, path: str, key: str) -> str:
        """The body of a GET that must be answered."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        request.add_header("Authorization", f"Bearer {key}")
        with urllib.request.urlopen(request, timeout=30) as response:
            body: bytes = response.read()
        return body.decode()

    def wait_until_ready(self) -> None:
        """Until /health/ready says so."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.get("/health/ready")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"not ready: {self.log.read_text()}")

    def children(self) -> set[int]:
        """The worker processes."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}

    def requests(self) -> list[dict[str, Any]]:
        """The request lines of the log."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == "request"]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it and give back its exit status."""
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)


def environment_of(warehouse: ApiWarehouse, port: int) -> dict[str, str]:
    """The variables of a server of this warehouse."""
    assert warehouse.settings.database_url
    assert warehouse.settings.api_database_url
    return os.environ | {
        "OVERSIGHT_DATABASE_URL": warehouse.settings.database_url,
        "OVERSIGHT_API_DATABASE_URL": warehouse.settings.api_database_url,
        "OVERSIGHT_SIGNING_KEY": SIGNING_KEY,
        "OVERSIGHT_API_PORT": str(port),
        "OVERSIGHT_API_WORKERS": "2",
        "OVERSIGHT_RATE_LIMITS": "standard=1000000000/hour,enterprise=1000000000/hour",
    }


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
