"""Fixtures of the runner's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from built_warehouse import BuiltWarehouse

from clusters import Cluster


@pytest.fixture(scope="session")
def built(server18: Cluster) -> Iterator[BuiltWarehouse]:
    """The warehouse that is made anew in a moment; call `renew` first."""
    made = BuiltWarehouse(server18)
    yield made
    made.close()
