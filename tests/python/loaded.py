"""A running server under load while its warehouse is refreshed, and whether all it said is true."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from api_warehouse import ApiWarehouse
from built import BuiltWarehouse
from open_loop import Outcome, run
from refreshed import Refreshing
from server_process import ServerProcess


def load_during_refreshes(
    built: BuiltWarehouse,
    warehouse: ApiWarehouse,
    folder: Path,
    *,
    rate: int,
    seconds: int,
    also: Callable[[str, str, str], None] | None = None,
) -> tuple[Outcome, int]:
    """Ask at a rate; fails at an error, or an answer that no version of the mart explains.

    `also` gets the address, the key and a question while the refreshes still go on. Gives back the
    outcome and how many refreshes there were meanwhile.
    """
    with Refreshing(built, folder) as refreshing:
        key = warehouse.key("load", organization=[refreshing.organization])
        server = ServerProcess(warehouse, folder / "server.log")
        try:
            server.wait_until_ready()
            address = f"http://127.0.0.1:{server.port}"
            questions = folder / "questions"
            questions.write_text("\n".join(refreshing.questions()))
            before = refreshing.refreshes
            outcome = run(address, key, questions, rate=rate, seconds=seconds)
            refreshes = refreshing.refreshes - before
            if also is not None:
                also(address, key, refreshing.questions()[0])
        finally:
            server.stop()
    wrong, compared = [], 0
    for question, version, digest in outcome.seen:
        expected = refreshing.expected(question, version)
        compared += expected is not None
        if expected is not None and expected != digest:
            wrong.append((question, version))
    sys.stdout.write(
        f"\n{rate} requests/s for {seconds} s, {refreshes} refreshes: {outcome}\n"
        f"  {len(outcome.seen)} different answers, {compared} compared with the mart\n"
    )
    assert outcome.errors == []
    assert wrong == []
    assert compared > len(outcome.seen) / 2
    assert len({(question, version) for question, version, _ in outcome.seen}) == len(
        {(question, version, digest) for question, version, digest in outcome.seen}
    ), "one version of the mart gave two answers"
    return outcome, refreshes
