"""A short run of schemathesis finds nothing; `make soak` has the long one."""

from datetime import date
from pathlib import Path

from administration import with_engines
from api_warehouse import ApiWarehouse
from fuzz_hooks import weeks_to_ask
from fuzzing import fuzz

from warehouse.backfills import check_engine
from warehouse.weeks import mondays, parse_week


def test_schemathesis_finds_nothing(own: ApiWarehouse, tmp_path: Path) -> None:
    done = fuzz(own, tmp_path, seconds=10)
    assert done.status == 0, done.report
    assert done.cases > 20, "hardly anything was asked"


def test_backfills_that_are_asked_for_are_many_and_each_may_be() -> None:
    catalogue, today = with_engines(), date(2026, 1, 1)
    check_engine(catalogue, "oversight")
    lengths = set()
    for number in range(2000):
        first, last = (parse_week(text) for text in weeks_to_ask(str(number), today).values())
        lengths.add(len(mondays(first, last, most=catalogue.backfill_max_weeks, today=today)))
    assert lengths == set(range(1, catalogue.backfill_max_weeks + 1))
