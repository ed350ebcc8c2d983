"""Several machines that share a Redis count together, and each by itself while it is away."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest
from api_traffic import tell
from api_warehouse import ApiWarehouse, Client
from server_process import free_port

from api.app import create_app
from warehouse.settings import RateLimit

MOST = 40
START_SECONDS = 20

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)


class Redis:
    """A server of this test alone; it keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(
            [*command, "--dir", str(self._folder)], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def machine(read_only: ApiWarehouse, redis: Redis, tmp_path: Path) -> Callable[[str, str], Client]:
    """A client of an app with a home of its own that counts in the shared Redis."""

    def make(home: str, key: str) -> Client:
        settings = replace(
            read_only.settings,
            home=tmp_path / home,
            rate_limits={"standard": RateLimit(amount=MOST, seconds=3600)},
            rate_limit_url=f"redis://127.0.0.1:{redis.port}/0",
        )
        return Client(create_app(settings).test_client(), key)

    return make


def left(client: Client) -> int:
    answer = client.get("marts")
    assert answer.status_code == 200
    return int(answer.headers["RateLimit-Remaining"])


def test_two_machines_let_exactly_as_many_pass(
    read_only: ApiWarehouse, machine: Callable[[str, str], Client]
) -> None:
    key = read_only.key("two machines", organization=["alpha"])
    clients = [machine("one", key), machine("two", key)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda n: clients[n % 2].get("marts"), range(MOST + 10)))
    assert Counter(answer.status_code for answer in answers) == {200: MOST, 429: 10}
    found = [int(a.headers["RateLimit-Remaining"]) for a in answers if a.status_code == 200]
    assert sorted(found) == list(range(MOST))
    assert all(3500 < int(answer.headers["RateLimit-Reset"]) <= 3600 for answer in answers)


def test_while_redis_is_gone_or_frozen_each_machine_counts_by_itself(
    read_only: ApiWarehouse, redis: Redis, machine: Callable[[str, str], Client]
) -> None:
    key = read_only.key("redis is away", organization=["alpha"])
    one, two = machine("one", key), machine("two", key)
    assert [left(one), left(two)] == [MOST - 1, MOST - 2]

    redis.process.send_signal(signal.SIGSTOP)
    # Who waited for it would then be counted by it.
    waking = Timer(30, redis.process.send_signal, (signal.SIGCONT,))
    waking.start()
    started = time.monotonic()
    found = [left(one), left(one), left(two)]
    tell(f"Redis frozen: three answers in {time.monotonic() - started:.2f} s")
    waking.cancel()
    redis.process.send_signal(signal.SIGCONT)
    assert found == [MOST - 1, MOST - 2, MOST - 1]
    _until(lambda: left(one) == left(two) + 1, "Redis counts again")

    redis.kill()
    alone = [left(one), left(two), left(one), left(two)]
    assert alone[2:] == [alone[0] - 1, alone[1] - 1]
    redis.start()
    _until(lambda: left(one) == left(two) + 1, "Redis counts again, from nothing")


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.3)
