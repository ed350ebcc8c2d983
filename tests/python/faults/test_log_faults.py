"""The log's disk is full, its reader gone or asleep: every answer is as without the fault."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_warehouse import ApiWarehouse, make_warehouse
from server_process import ServerProcess

from api.watching.logs import Lines
from clusters import PROJECT_DIR, Cluster

DAILY = "/api/reporting/v1/daily-metrics?from=2026-09-01&to=2026-09-30"


@pytest.fixture(scope="module")
def logging(server18: Cluster) -> Iterator[ApiWarehouse]:
    """A warehouse that is read only."""
    settings = server18.migrated_database()
    yield make_warehouse(server18, settings)
    server18.drop_database(Cluster.name_of(settings))


def answers(server: ServerProcess, key: str, number: int = 100) -> None:
    """Reads and errors, each with its line in the log, all answered rightly."""
    for _ in range(number):
        status, body = server.get(DAILY, key)
        assert (status, len(body["data"])) == (200, 90)
        assert server.get(f"{DAILY}&page_size=x", key)[0] == 400
        assert server.get("/nothing/here")[0] == 401


def test_a_full_disk_under_the_log(logging: ApiWarehouse, tmp_path: Path) -> None:
    key = logging.key("full", organization=["alpha"])
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left"):
        os.write(full, b"the fault has landed")
    server = ServerProcess(logging, tmp_path / "log", stderr=full)
    try:
        server.wait_until_ready()
        answers(server, key)
        text = server.text("/metrics", logging.key("full ops", "operator", organization=["*"]))
        (dropped,) = re.findall(r"^oversight_log_lines_dropped_total (\d+)", text, re.MULTILINE)
        assert int(dropped) >= 300, "each lost line is counted"
    finally:
        os.close(full)
        assert server.stop() == 0


def test_a_reader_of_the_log_that_is_gone(logging: ApiWarehouse, tmp_path: Path) -> None:
    key = logging.key("gone", organization=["alpha"])
    reader, writer = os.pipe()
    server = ServerProcess(logging, tmp_path / "log", stderr=writer)
    os.close(writer)
    try:
        server.wait_until_ready()
        answers(server, key, 1)
        assert b'"event": "request"' in os.read(reader, 1 << 16)
        os.close(reader)
        answers(server, key)
    finally:
        assert server.stop() == 0


def test_a_reader_of_the_log_that_sleeps(logging: ApiWarehouse, tmp_path: Path) -> None:
    """A pipe that is full would hold each request for ever; it did not, nor lose whole lines."""
    key = logging.key("asleep", organization=["alpha"])
    reader, writer = os.pipe()
    server = ServerProcess(logging, tmp_path / "log", stderr=writer)
    try:
        server.wait_until_ready()
        answers(server, key, 150)
        os.set_blocking(writer, False)
        with pytest.raises(BlockingIOError):  # The fault has landed.
            os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        assert os.read(reader, 1 << 20).count(b"\n") > 10
        answers(server, key, 1)
        assert b'"status": 400' in os.read(reader, 1 << 20), "it goes on once the reader wakes"
    finally:
        os.close(writer)
        assert server.stop() == 0
        os.close(reader)


def test_a_limit_on_the_size_of_files_tears_no_line_but_the_last(tmp_path: Path) -> None:
    """In a process of its own, as the limit is one of a process; Python ignores SIGXFSZ."""
    log = tmp_path / "log"
    program = (
        "import os, resource, sys\n"
        "from api.watching.logs import configure\n"
        "import structlog\n"
        "dropped = []\n"
        "configure(lambda: dropped.append(1))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 2000))\n"
        "for number in range(50): structlog.get_logger().info('line', number=number)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "structlog.get_logger().info('again')\n"
        "print(len(dropped))\n"
    )
    with log.open("wb") as errors:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=PROJECT_DIR,
            stderr=errors,
            stdout=subprocess.PIPE,
            check=True,
            timeout=30,
        )
    assert int(done.stdout) > 30
    *whole, torn, again = log.read_text().splitlines()
    assert len(whole) > 5
    assert not torn.endswith("}")
    assert '"event": "again"' in again


def test_without_a_standard_error_nothing_is_written_anywhere(tmp_path: Path) -> None:
    """The number 2 is then the first file that anyone opens, such as the socket of a database."""
    other = tmp_path / "other"
    program = (
        "import sys\n"
        f"other = open({str(other)!r}, 'wb', buffering=0)\n"
        "assert other.fileno() == 2 and sys.stderr is None\n"
        "from api.watching.logs import configure\n"
        "import structlog\n"
        "configure()\n"
        "structlog.get_logger().error('lost')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT_DIR,
        preexec_fn=lambda: os.close(2),
        check=False,
        timeout=30,
    )
    assert done.returncode == 0
    assert other.read_bytes() == b""


def test_a_line_longer_than_a_pipe_takes_at_once_is_whole_or_counted() -> None:
    reader, writer = os.pipe()
    dropped: list[int] = []
    lines = Lines(writer, lambda: dropped.append(1))
    for _ in range(4):
        lines.write("x" * 30_000 + "\n")
    assert len(dropped) == 2
    lines.write("short\n")
    found = os.read(reader, 1 << 20)
    lines.write("after\n")
    assert found.count(b"x" * 30_000 + b"\n") == 2
    assert os.read(reader, 100) == b"\nafter\n"
    os.close(reader)
    os.close(writer)
