"""A warehouse with every table built, made anew in a moment, and dbt that starts in a moment."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

from histories import MODELS
from loads import Arrivals, write_extracts
from warm_dbt import WarmDbt

from clusters import Cluster
from warehouse import dbt, migrate
from warehouse.catalogue import read_catalogue
from warehouse.database import connect
from warehouse.raw_tables import ensure_raw_tables
from warehouse.settings import Settings

DATABASE = "property"
BUILT = "property_built"
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

Rows = dict[str, list[tuple[Any, ...]]]


class BuiltWarehouse:
    """One database on a test's server; `renew` empties it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.settings: Settings = cluster.settings_for(DATABASE)
        cluster.run(f"create database {DATABASE}")
        migrate.migrate(self.settings)
        self.catalogue = read_catalogue(self.settings.project_dir)
        self._folder = tempfile.TemporaryDirectory(prefix="ov-property-")
        self._numbers = itertools.count(1)
        connection = connect(self.settings)
        ensure_raw_tables(connection, self.catalogue.sources)
        connection.close()
        self.environment = dbt.environment(self.settings)
        self.dbt = WarmDbt(self.settings.project_dir, dbt.target(self.settings), self.environment)
        self.run("build", "--exclude-resource-type", "test", "unit_test")
        cluster.run(f"alter database {DATABASE} rename to {BUILT}")

    def renew(self) -> None:
        """An empty warehouse with every table built, under the name that dbt was parsed for."""
        self.cluster.drop_database(DATABASE)
        self.cluster.run(f"create database {DATABASE} template {BUILT}")
        self.cluster.run(
            f"grant create, temporary, connect on database {DATABASE}"
            " to oversight_owner, oversight_raw, oversight_loader"
        )

    def folder(self, arrivals: Arrivals) -> Path:
        """A new folder of extracts."""
        folder = Path(self._folder.name) / str(next(self._numbers))
        folder.mkdir()
        write_extracts(folder, self.catalogue, arrivals)
        return folder

    def close(self) -> None:
        self.dbt.close()
        self._folder.cleanup()
        for name in (DATABASE, BUILT):
            self.cluster.drop_database(name)

    def run(self, *arguments: str) -> None:
        outcome = self.dbt.run(arguments, self.environment)
        assert outcome.status == 0, outcome.output

    def refresh(self, models: tuple[str, ...] = MODELS, *, is_full: bool = False) -> None:
        self.run(*command(models, is_full=is_full))

    def rows(self) -> Rows:
        connection = connect(self.settings)
        found: Rows = {}
        with connection, connection.cursor() as cursor:
            for name, query in QUERIES.items():
                cursor.execute(query)
                found[name] = sorted(cursor.fetchall(), key=repr)
        connection.close()
        return found

    def value(self, query: str) -> Any:
        connection = connect(self.settings)
        with connection, connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone()
        connection.close()
        return row and row[0]


def command(models: tuple[str, ...], *, is_full: bool = False) -> list[str]:
    return ["run", "--select", *models, *(["--full-refresh"] if is_full else [])]
