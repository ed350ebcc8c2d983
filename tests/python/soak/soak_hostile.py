"""Ten thousand requests that mean harm, half of them over sockets to a live server.

Run by `make soak` (SOAK_HOSTILE=500 for a look, HOSTILE_SEED=7 for others). No 5xx, no row of
another organization, nothing of the inside, no answer after more than five seconds; every server
process lives on, and none has grown without end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from attacked import Attacked, live, make_attacked, over_sockets
from hostile import Sent
from judging import Answer, report

from clusters import Cluster

NUMBER = int(os.environ.get("SOAK_HOSTILE", "10000"))
SEED = int(os.environ.get("HOSTILE_SEED", "20261120"))
ROUNDS = 10
MOST_GROWTH = 100_000_000


@pytest.fixture
def attacked(server18: Cluster) -> Iterator[Attacked]:
    """A warehouse of two organizations."""
    made = make_attacked(server18)
    yield made
    server18.drop_database(Cluster.name_of(made.warehouse.settings))


def test_ten_thousand_hostile_requests(attacked: Attacked, tmp_path: Path) -> None:
    hostile = attacked.hostile(SEED)
    with live(attacked, tmp_path / "log") as server:
        workers = server.children()
        sizes = []
        for _ in range(ROUNDS):
            drawn = hostile.draw(NUMBER // ROUNDS // 2)
            report([(sent, attacked.ask(sent)) for sent in drawn])
            drawn = hostile.draw(NUMBER // ROUNDS // 2)
            found: list[tuple[Sent, Answer | None]] = list(
                zip(drawn, over_sockets(server.port, drawn), strict=True)
            )
            report(found)
            sizes.append(sum(psutil.Process(pid).memory_info().rss for pid in workers))
        sys.stdout.write(f"memory of the workers, MB: {[size // 10**6 for size in sizes]}\n")
        assert server.children() == workers, "no worker died"
        assert sizes[-1] - sizes[0] < MOST_GROWTH
        assert '"defect"' not in server.log.read_text()
        assert server.stop() == 0
