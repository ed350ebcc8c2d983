"""How long landed data waited is noted when a mart takes it, per organization and hour."""

from __future__ import annotations

from typing import Any

import pytest

from warehouse.database import connect
from warehouse.settings import Settings

BATCHES = """
    insert into metadata.batches (engine, status, path)
    select 'ads', 'landed', '/data' from generate_series(1, 3);
    insert into metadata.waiting_batches (model, organization_id, batch_id, landed_at)
    select m.model, o.id, b.batch_id, clock_timestamp() - b.batch_id * o.wait
    from metadata.batches as b
    cross join (values ('daily'), ('weekly')) as m (model)
    cross join (values ('alpha', interval '1 minute'), ('beta', interval '1 hour')) as o (id, wait)
"""
TAKE = "insert into metadata.applied_batches (model, batch_id) values (%s, %s)"


@pytest.fixture
def waiting(any_warehouse: Settings) -> Settings:
    """Three batches that wait for two marts, of two organizations."""
    run(any_warehouse, BATCHES)
    return any_warehouse


def run(settings: Settings, statement: str, *parameters: object) -> list[Any]:
    connection = connect(settings, role="oversight_owner", autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description is not None else []
    finally:
        connection.close()


def noted(settings: Settings) -> list[Any]:
    return run(
        settings,
        "select model, organization_id, batches, round(longest_seconds / 60)"
        " from metadata.mart_waits order by 1, 2, hour",
    )


def test_the_longest_wait_of_what_a_mart_took_is_noted(waiting: Settings) -> None:
    assert noted(waiting) == []
    run(waiting, TAKE, "daily", 2)
    assert noted(waiting) == [("daily", "alpha", 1, 2), ("daily", "beta", 1, 120)]
    run(waiting, TAKE, "daily", 3)
    run(waiting, TAKE, "daily", 1)
    found = noted(waiting)
    assert [sum(row[2] for row in found if row[1] == name) for name in ("alpha", "beta")] == [3, 3]
    assert max(row[3] for row in found if row[1] == "alpha") == 3
    assert max(row[3] for row in found if row[1] == "beta") == 180


def test_a_batch_that_a_mart_never_waited_for_is_not_noted(waiting: Settings) -> None:
    run(waiting, "delete from metadata.waiting_batches where model = 'daily'")
    run(waiting, TAKE, "daily", 1)
    assert noted(waiting) == []


def test_what_is_older_than_the_chart_goes(waiting: Settings) -> None:
    run(
        waiting,
        "insert into metadata.mart_waits select m, 'alpha', now() - d * interval '1 day', 1, 1"
        " from unnest(array['daily', 'weekly']) as m cross join unnest(array[39, 41]) as d",
    )
    run(waiting, TAKE, "daily", 1)
    assert len(run(waiting, "select from metadata.mart_waits where model = 'daily'")) == 3
    assert len(run(waiting, "select from metadata.mart_waits where model = 'weekly'")) == 2
