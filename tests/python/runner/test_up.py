"""`oversight up`: serves a fresh folder, goes on with its data, and leaves nothing running."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from projects import copy_project

from clusters import PROJECT_DIR, make_folder
from runner.up.children import Child, ChildError, keep_running
from runner.up.serve import UpError, check_port
from warehouse import server
from warehouse.settings import Settings

SERVING_SECONDS = 240
STOPPING_SECONDS = 120


class Up:
    """A running `oversight up` with what it printed so far."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.output = home.parent / "up.out"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "runner.cli", "up"],
                cwd=PROJECT_DIR,
                env={
                    **os.environ,
                    "OVERSIGHT_HOME": str(home),
                    "OVERSIGHT_PROJECT_DIR": str(home.parent / "project"),
                    "OVERSIGHT_API_PORT": str(port),
                    "OVERSIGHT_API_WORKERS": "1",
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.output.read_text()

    def wait_until_serving(self) -> str:
        """What it printed up to the last line of its welcome."""
        deadline = time.monotonic() + SERVING_SECONDS
        while time.monotonic() < deadline:
            if "Ctrl-C stops everything." in self.text():
                return self.text()
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        pytest.fail(f"not serving:\n{self.text()}")

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(STOPPING_SECONDS)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(STOPPING_SECONDS)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home folder beside a copy of the dbt project, which nobody edits meanwhile."""
    folder = make_folder()
    copy_project(folder / "project")
    yield folder / "home"
    server.stop(Settings(project_dir=PROJECT_DIR, home=folder / "home"))
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def up(home: Path, port: int) -> Iterator[Callable[[], Up]]:
    started: list[Up] = []

    def start() -> Up:
        started.append(Up(home, port))
        return started[-1]

    yield start
    for item in started:
        item.kill()


def _curl(printed: str) -> dict[str, object]:
    """Run the curl line that was printed, as a person would."""
    line = re.search(r"^  (curl .*)$", printed, flags=re.MULTILINE)
    assert line is not None
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(["sh", "-c", line[1]], capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def _key(printed: str) -> str:
    return str(re.findall(r"ov_[A-Za-z0-9_-]{43}", printed)[0])


def _none_alive(before: list[psutil.Process], seconds: float = 10) -> None:
    _, alive = psutil.wait_procs(before, timeout=seconds)
    assert [item for item in alive if item.status() != psutil.STATUS_ZOMBIE] == []


def _nothing_runs(home: Path, before: list[psutil.Process]) -> None:
    _none_alive(before)
    assert not server.is_running(Settings(project_dir=PROJECT_DIR, home=home))


class TestServing:
    """In order: the first start, a second one with the same data, and the ways to end."""

    def test_a_fresh_folder_serves_and_the_printed_line_works(
        self, up: Callable[[], Up], home: Path
    ) -> None:
        began = time.monotonic()
        running = up()
        printed = running.wait_until_serving()
        print(f"serving after {time.monotonic() - began:.1f} s")  # noqa: T201
        answer = _curl(printed)
        assert len(answer["data"]) == 3  # type: ignore[arg-type]
        assert answer["freshness"]["parity"] == "ok"  # type: ignore[index]
        assert answer["freshness"]["status"] == "fresh"  # type: ignore[index]
        for name in ("signing.key", "reader.key"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
        processes = running.descendants()
        assert len(processes) >= 2
        assert running.end(signal.SIGINT) == 0
        assert running.text().endswith("stopping\nstopped\n")
        _nothing_runs(home, processes)

    def test_a_second_start_goes_on_with_data_and_key(
        self, up: Callable[[], Up], home: Path, port: int
    ) -> None:
        key = (home / "reader.key").read_text().strip()
        running = up()
        printed = running.wait_until_serving()
        assert "simulating" not in printed
        assert "building" not in printed
        assert _key(printed) == key
        first = _curl(printed)
        assert len(first["data"]) == 3  # type: ignore[arg-type]

        other = up()
        assert other.process.wait(60) == 1
        assert f"another `oversight up` serves {home}" in other.text()
        assert running.process.poll() is None

        with pytest.raises(UpError, match="OVERSIGHT_API_PORT"):
            check_port("127.0.0.1", port)

        processes = running.descendants()
        assert running.end(signal.SIGTERM) == 0
        _nothing_runs(home, processes)

    def test_asked_to_stop_while_it_starts_it_stops_all_the_same(
        self, up: Callable[[], Up], home: Path
    ) -> None:
        running = up()
        while "starting PostgreSQL" not in running.text():
            assert running.process.poll() is None
            time.sleep(0.01)
        assert running.end(signal.SIGINT) == 0
        assert "serving" not in running.text()
        _nothing_runs(home, [])

    def test_killed_outright_it_takes_its_children_along(
        self, up: Callable[[], Up], home: Path
    ) -> None:
        if sys.platform != "linux":
            pytest.skip("only Linux tells a child that its parent died")
        running = up()
        running.wait_until_serving()
        processes = running.descendants()
        running.process.kill()
        running.process.wait()
        _none_alive(processes, STOPPING_SECONDS)
        assert server.is_running(Settings(project_dir=PROJECT_DIR, home=home))

    def test_a_child_that_dies_is_named_and_the_rest_stopped(
        self, up: Callable[[], Up], home: Path
    ) -> None:
        """After the kill above; the server that this one found running stays."""
        running = up()
        assert len(_curl(running.wait_until_serving())["data"]) == 3  # type: ignore[arg-type]
        processes = running.descendants()
        [scheduler] = [
            item for item in processes if item.cmdline()[1:] == ["-m", "runner.cli", "schedule"]
        ]
        scheduler.kill()
        assert running.process.wait(STOPPING_SECONDS) == 1
        assert "error: the scheduler ended by itself (killed by SIGKILL)" in running.text()
        _none_alive(processes)
        assert server.is_running(Settings(project_dir=PROJECT_DIR, home=home))


class TestChild:
    def test_one_that_does_not_end_when_asked_is_killed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        (tmp_path / "stubborn.py").write_text(
            "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "print('ready', flush=True)\ntime.sleep(60)\n"
        )
        child = Child.start("stubborn", ["stubborn"], log_dir=tmp_path)
        while "ready" not in child.tail():
            child.check()
            time.sleep(0.05)
        assert child.stop(seconds=0.2) is False
        assert child.process.returncode == -signal.SIGKILL

    def test_one_that_ends_after_a_while_is_started_again_and_one_that_ends_at_once_is_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        (tmp_path / "brief.py").write_text("import time\ntime.sleep(1.5)\n")
        child = Child.start("brief", ["brief"], log_dir=tmp_path)
        monkeypatch.setattr("runner.up.children.SETTLED_SECONDS", 1.0)
        said: list[str] = []

        def say(text: str) -> None:
            said.append(text)
            (tmp_path / "brief.py").write_text("raise SystemExit(3)\n")

        with pytest.raises(ChildError, match="exit status 3"):
            keep_running([child], say, seconds=0.05)
        assert len(said) == 1
        assert "starting the brief again" in said[0]

    def test_a_log_that_grew_large_is_cut_while_its_process_writes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr("runner.up.children.MOST_LOG_BYTES", 10_000)
        (tmp_path / "wordy.py").write_text(
            "import time\nfor n in range(100):\n"
            "    print(f'{n:0100}', flush=True)\n    time.sleep(0.005)\n"
            "print('after', flush=True)\ntime.sleep(0.5)\nprint('last', flush=True)\n"
        )
        child = Child.start("wordy", ["wordy"], log_dir=tmp_path)
        while "after" not in child.tail():
            child.check()
            time.sleep(0.02)
        with pytest.raises(ChildError, match="exit status 0"):
            keep_running([child], print, seconds=0.05)
        assert child.log.read_bytes() == b"last\n"
        kept = (tmp_path / "wordy.log.1").read_text().splitlines()
        assert (len(kept), kept[-1]) == (101, "after")

    def test_one_that_fails_shows_the_end_of_its_log(self, tmp_path: Path) -> None:
        child = Child.start("missing", ["no_such_module"], log_dir=tmp_path)
        child.process.wait(30)
        with pytest.raises(
            ChildError, match=r"the missing ended by itself .exit status 1"
        ) as caught:
            child.check()
        assert "No module named no_such_module" in str(caught.value)


def test_an_unwritable_home_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = subprocess.run(
        [sys.executable, "-m", "runner.cli", "up"],
        cwd=PROJECT_DIR,
        env={**os.environ, "OVERSIGHT_HOME": str(tmp_path / "file" / "home")},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: can't write to {tmp_path / 'file' / 'home'}")
    assert "OVERSIGHT_HOME" in done.stderr
