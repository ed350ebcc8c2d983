"""A short run of schemathesis finds nothing; `make soak` has the long one."""

from pathlib import Path

from api_warehouse import ApiWarehouse
from fuzzing import fuzz


def test_schemathesis_finds_nothing(own: ApiWarehouse, tmp_path: Path) -> None:
    done = fuzz(own, tmp_path, seconds=10)
    assert done.status == 0, done.report
    assert done.cases > 20, "hardly anything was asked"
