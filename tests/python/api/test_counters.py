"""The shared counters: exact over threads and processes, after kills, restarts and spoilt files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api.access import counters
from api.access.counters import CountersError, SharedCounters
from clusters import PROJECT_DIR

HITS, THREADS, PROCESSES = 8000, 4, 3
COUNT = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from api.access.counters import SharedCounters
counters = SharedCounters(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor({THREADS}) as threads:
    found = threads.map(lambda n: counters.hit(f"key {{n % 2}}", 3600)[0], range({HITS}))
    print(*found)
"""
HOLD = """
import fcntl, os, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "rates.counters"


@contextmanager
def _held(file: Path) -> Iterator[None]:
    """While a process holds the lock of a file that is there; in the end it is killed."""
    process = _python(HOLD, file)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield
    finally:
        process.kill()
        process.communicate()


def _python(script: str, file: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, str(file)],
        cwd=PROJECT_DIR,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_every_count_is_given_once_over_threads_and_processes(file: Path) -> None:
    processes = [_python(COUNT, file) for _ in range(PROCESSES)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES
    given = Counter(int(text) for output in outputs for text in output.split())
    each = HITS * PROCESSES // 2
    assert given == dict.fromkeys(range(1, each + 1), 2)
    assert SharedCounters(file).get("key 0") == SharedCounters(file).get("key 1") == each


def test_a_forked_child_counts_beside_its_parent(file: Path) -> None:
    shared = SharedCounters(file)
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for _ in range(10_000):
                    shared.hit("key", 3600)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    for _ in range(10_000):
        shared.hit("key", 3600)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    assert shared.get("key") == 30_000


def test_a_window_begins_with_its_first_and_ends(file: Path) -> None:
    shared = SharedCounters(file)
    first, ends = shared.hit("key", 1)
    assert first == 1
    assert shared.hit("key", 1) == (2, ends)
    assert shared.hit("other", 3600)[0] == 1
    assert shared.get_expiry("key") == ends
    time.sleep(max(0.0, ends - time.time()) + 0.01)
    assert shared.get("key") == 0
    assert shared.hit("key", 1)[0] == 1
    shared.clear("other")
    assert (shared.get("other"), shared.hit("other", 3600)[0]) == (0, 1)


def test_a_clock_that_goes_back_locks_nobody_out(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedCounters(file)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    assert shared.hit("key", 3600, amount=500)[0] == 500
    monkeypatch.setattr(time, "time", lambda: now)
    assert shared.hit("key", 3600) == (1, now + 3600)


def test_counts_outlive_the_process(file: Path) -> None:
    assert SharedCounters(file).hit("key", 3600, amount=7)[0] == 7
    again = SharedCounters(file)
    assert again.hit("key", 3600)[0] == 8
    assert again.check()
    again.reset()
    assert again.get("key") == 0


@pytest.mark.parametrize("spoilt", [b"", b"x", b"another file\n" * 200_000, bytes(3_000_000)])
def test_a_spoilt_file_is_made_anew(file: Path, spoilt: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(spoilt)
    assert SharedCounters(file).hit("key", 3600)[0] == 1
    assert SharedCounters(file).hit("key", 3600)[0] == 2
    assert file.stat().st_mode & 0o777 in (0o600, 0o644)


def test_garbage_in_the_table_is_taken_for_nothing(file: Path) -> None:
    SharedCounters(file)
    size = file.stat().st_size
    with file.open("r+b") as table:
        table.seek(64)
        table.write(b"\xff" * (size - 64))
    shared = SharedCounters(file)
    assert [shared.hit(f"key {number}", 3600)[0] for number in range(200)] == [1] * 200
    assert [shared.hit(f"key {number}", 3600)[0] for number in range(200)] == [2] * 200


def test_memory_is_bounded_and_a_full_table_gives_up_the_window_that_ends_first(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "SLOTS", 1)
    counters._place.cache_clear()
    shared = SharedCounters(file)
    most = counters._NEIGHBOURS
    for number in range(most):
        shared.hit(f"key {number}", 1000 + number, amount=5)
    assert [shared.get(f"key {number}") for number in range(most)] == [5] * most
    assert shared.hit("one more", 2000)[0] == 1
    assert [shared.get(f"key {number}") for number in range(most)] == [0] + [5] * (most - 1)
    assert shared.hit("one more", 2000)[0] == 2
    counters._place.cache_clear()


def test_a_lock_that_is_not_let_go_of_is_an_error_in_time_and_that_of_a_killed_process_free(
    file: Path,
) -> None:
    shared = SharedCounters(file)
    with _held(file):
        started = time.monotonic()
        with pytest.raises(CountersError, match="does not let go"):
            shared.hit("key", 3600)
        assert time.monotonic() - started < 3 * counters._PATIENCE_SECONDS
    assert shared.hit("key", 3600)[0] == 1


def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CountersError, match="can't use"):
        SharedCounters(tmp_path / "file" / "rates.counters")
