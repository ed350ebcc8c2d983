"""The production server as a process: several workers, a clean stop, errors that say what to do."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from api_warehouse import ApiWarehouse
from server_process import START_SECONDS, ServerProcess, environment_of, free_port

from clusters import PROJECT_DIR


@pytest.fixture
def served(read_only: ApiWarehouse, tmp_path: Path) -> Iterator[ServerProcess]:
    """A ready server of two workers."""
    server = ServerProcess(read_only, tmp_path / "log")
    try:
        server.wait_until_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def test_two_workers_answer_and_one_that_is_killed_comes_back(
    read_only: ApiWarehouse, served: ServerProcess
) -> None:
    key = read_only.key("two workers", organization=["alpha"])
    path = "/api/reporting/v1/daily-metrics?from=2026-09-01&to=2026-09-30"

    def ask(_: int) -> int:
        status, body = served.get(path, key)
        assert len(body["data"]) == 90
        return status

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(200))) == {200}
    workers = served.children()
    assert len(workers) == 2
    assert {line["process"] for line in served.requests()} == workers

    killed = min(workers)
    os.kill(killed, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while killed in served.children() or len(served.children()) != 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    served.wait_until_ready()
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(50))) == {200}


def test_the_log_has_a_line_per_request_without_keys_and_values(
    read_only: ApiWarehouse, served: ServerProcess
) -> None:
    key = read_only.key("logged", organization=["alpha"])
    served.get("/api/reporting/v1/daily-metrics?partner_id=a-secret-value", key)
    text = served.log.read_text()
    assert key not in text
    assert key[3:] not in text
    assert "a-secret-value" not in text
    ((principal_id,),) = read_only.run(
        "select principal_id::text from metadata.principals where name = 'logged'"
    )
    assert '"logged"' not in text
    (line,) = [line for line in served.requests() if line["principal"] == principal_id]
    assert line["path"] == "/api/reporting/v1/daily-metrics"
    assert line["parameters"] == ["partner_id"]
    assert (line["method"], line["status"], line["level"]) == ("GET", 200, "info")
    assert line["ms"] > 0
    assert len(line["request_id"]) == 32


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_and_leaves_nobody(served: ServerProcess, number: int) -> None:
    workers = served.children()
    assert served.stop(number) == 0
    events = [json.loads(line)["event"] for line in served.log.read_text().splitlines()]
    assert any(event.startswith("Listening at") for event in events)
    assert not [pid for pid in workers if is_running(pid)]
    with socket.socket() as probe:
        # Ended connections linger in TIME_WAIT; only a listener would be in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", served.port))


def test_workers_end_with_a_parent_that_was_killed(served: ServerProcess) -> None:
    workers = served.children()
    assert len(workers) == 2
    served.process.kill()
    served.process.wait()
    deadline = time.monotonic() + 30
    while [pid for pid in workers if is_running(pid)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_taken_port_is_an_error_that_says_so(
    read_only: ApiWarehouse, served: ServerProcess
) -> None:
    failed = run_server(read_only, served.port)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: can't listen on 127.0.0.1 port {served.port}")
    assert "OVERSIGHT_API_PORT" in failed.stderr


def test_without_a_signing_key_it_says_how_to_get_one(
    read_only: ApiWarehouse, tmp_path: Path
) -> None:
    failed = run_server(
        read_only, free_port(), OVERSIGHT_SIGNING_KEY="", OVERSIGHT_HOME=str(tmp_path)
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: there is no signing key: set OVERSIGHT_SIGNING_KEY")
    (tmp_path / "signing.key").write_text("short")
    failed = run_server(
        read_only, free_port(), OVERSIGHT_SIGNING_KEY="", OVERSIGHT_HOME=str(tmp_path)
    )
    assert "is shorter than 32 characters" in failed.stderr


def test_what_each_worker_would_fail_at_stops_the_start(
    read_only: ApiWarehouse, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    failed = run_server(read_only, free_port(), OVERSIGHT_HOME=str(tmp_path / "file"))
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: requests can't be counted: can't use ")
    sessions = {"OVERSIGHT_JWT_ISSUER": "i", "OVERSIGHT_JWT_AUDIENCE": "a"}
    failed = run_server(
        read_only, free_port(), OVERSIGHT_JWT_JWKS=str(tmp_path / "file"), **sessions
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: OVERSIGHT_JWT_JWKS: ")


def run_server(
    warehouse: ApiWarehouse, port: int, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A server that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "runner.cli", "serve"],
        cwd=PROJECT_DIR,
        env=environment_of(warehouse, port) | environment,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
