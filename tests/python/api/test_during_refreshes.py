"""The API under a constant load while refreshes go on: no error, and no answer but a true one.

The short form of tests/python/soak/soak_api.py.
"""

from pathlib import Path

from api_warehouse import ApiWarehouse, served_by
from built import BuiltWarehouse
from loaded import load_during_refreshes

SECONDS = 15
RATE = 100


def test_answers_are_those_of_a_version_while_refreshes_go_on(
    built: BuiltWarehouse, tmp_path: Path
) -> None:
    warehouse = ApiWarehouse(settings=served_by(built.cluster, built.settings))
    outcome, refreshes = load_during_refreshes(
        built, warehouse, tmp_path, rate=RATE, seconds=SECONDS
    )
    assert outcome.requests == RATE * SECONDS // 8 * 8
    assert refreshes >= 2
