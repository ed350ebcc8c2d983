"""Plain dbt and the daemon may meet: two refreshes of one warehouse at one time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from compared import ComparedWarehouse, command
from histories import MODELS, Version
from loads import Loading

from runner.runs.warm_dbt import Dbt


@pytest.fixture
def rival(built: ComparedWarehouse) -> Iterator[Dbt]:
    """A second dbt on the same warehouse."""
    built.renew()
    with Dbt(built.settings, warm=True) as made:
        yield made


def spend(number: int, round_number: int) -> Version:
    return Version(
        engine="oversight",
        table="spend",
        values=(
            ("organization_id", "left"),
            ("spend_id", f"s{number}"),
            ("occurred_at", f"2027-01-0{(number + round_number) % 7 + 1}T00:00:00Z"),
            ("partner_id", f"p{round_number % 3}"),
            ("campaign_id", f"c{number % 2}"),
            ("spend_amount", f"{number}.00"),
            ("currency", "USD"),
        ),
    )


def test_two_refreshes_at_one_time_both_end_well_and_leave_what_one_would(
    built: ComparedWarehouse, rival: Dbt
) -> None:
    place = 0
    for round_number, (is_full, is_rival_full) in enumerate(
        ((False, False), (True, False), (False, False), (False, True), (True, True))
    ):
        records = [spend(number, round_number) for number in range(8)]
        folder = built.folder([(place + index, item) for index, item in enumerate(records)])
        place += len(records)
        Loading(built.settings, built.catalogue, folder).commit()
        run = rival.start(command(MODELS, is_full=is_rival_full), run_id=None)
        built.refresh_models(is_full=is_full)
        result = run.wait()
        assert result is not None
        assert result.success, result.output
        found = built.contents()
        assert len(found["fact_spend"]) == 8
    built.refresh_models()
    found = built.contents()
    assert {row[2] for row in found["daily_metrics"]} == {"oversight:p1"}
    built.refresh_models(is_full=True)
    assert found == built.contents()
