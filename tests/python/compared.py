"""A built warehouse whose whole content can be compared, filled from histories of records."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

from built import BuiltWarehouse
from histories import MODELS
from loads import Arrivals, write_extracts

from clusters import Cluster

QUERIES = {
    **{model: f"select * from curated.{model}" for model in MODELS[:5]},
    **{model: f"select * from reporting.{model}" for model in MODELS[5:]},
    "verdicts": (
        "select organization_id, mart, partner_id, period, metric, mart_value, control_value,"
        " difference, tolerance, verdict from metadata.parity_verdicts"
    ),
    # Reports without an extract time of their own have that of their load.
    "data_through": (
        "select model, organization_id, data_through from metadata.data_versions"
        " where organization_id <> 'default'"
    ),
}
"""All that does not depend on when it was computed."""

Contents = dict[str, list[tuple[Any, ...]]]


class ComparedWarehouse(BuiltWarehouse):
    """One database on a test's server; `renew` empties it."""

    def __init__(self, cluster: Cluster, name: str, project_dir: Path | None = None) -> None:
        super().__init__(cluster, name, project_dir)
        self._folder = tempfile.TemporaryDirectory(prefix="ov-compared-")
        self._numbers = itertools.count(1)

    def close(self) -> None:
        super().close()
        self._folder.cleanup()

    def folder(self, arrivals: Arrivals) -> Path:
        """A new folder of extracts."""
        folder = Path(self._folder.name) / str(next(self._numbers))
        folder.mkdir()
        write_extracts(folder, self.catalogue, arrivals)
        return folder

    def refresh_models(self, models: tuple[str, ...] = MODELS, *, is_full: bool = False) -> None:
        """These models; fails when dbt does."""
        result = self.dbt_run(*command(models, is_full=is_full))
        assert result.success, result.output

    def contents(self) -> Contents:
        """Every row of facts, dimensions, marts and verdicts."""
        return {name: sorted(self.rows(query), key=repr) for name, query in QUERIES.items()}

    def value(self, query: str) -> Any:
        """The one value that a query gives."""
        ((found,),) = self.rows(query)
        return found


def command(models: tuple[str, ...], *, is_full: bool = False) -> list[str]:
    return ["run", "--select", *models, *(["--full-refresh"] if is_full else [])]
