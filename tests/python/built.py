"""A warehouse with every table built, made anew in a moment, and dbt that starts in a moment.

dbt writes the database's name into every relation, so each fresh copy takes the same name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clusters import Cluster
from runner.landing.ledger import LoadReport
from runner.landing.load import load_engine
from runner.runs.warm_dbt import Dbt, DbtResult
from warehouse import migrate
from warehouse.catalogue import read_catalogue
from warehouse.database import connect
from warehouse.raw_tables import ensure_raw_tables
from warehouse.settings import Settings

INCREMENTAL = "config.materialized:incremental"


class BuiltWarehouse:
    """`renew()` first: it gives an empty warehouse of the project in `project_dir`."""

    def __init__(self, cluster: Cluster, name: str, project_dir: Path | None = None) -> None:
        self.cluster = cluster
        self.name = name
        self.settings: Settings = cluster.settings_for(name)
        if project_dir is not None:
            self.settings = dataclasses.replace(self.settings, project_dir=project_dir)
        cluster.run(f"create database {name}")
        migrate.migrate(self.settings)
        self.catalogue = read_catalogue(self.settings.project_dir)
        connection = connect(self.settings)
        ensure_raw_tables(connection, self.catalogue.sources)
        connection.close()
        self.dbt = Dbt(self.settings, warm=True)
        result = self.dbt_run("build", "--exclude-resource-type", "test", "unit_test")
        assert result.success, result.output
        cluster.run(f"alter database {name} rename to {name}_template")

    def renew(self) -> None:
        """An empty warehouse with every table built."""
        self.cluster.drop_database(self.name)
        self.cluster.run(f"create database {self.name} template {self.name}_template")
        self.cluster.run(
            f"grant create, temporary, connect on database {self.name}"
            " to oversight_owner, oversight_raw, oversight_loader"
        )

    def close(self) -> None:
        """Stop dbt and drop the databases."""
        self.dbt.close()
        for name in (self.name, f"{self.name}_template"):
            self.cluster.drop_database(name)

    def dbt_run(self, *arguments: str) -> DbtResult:
        """dbt with these arguments, whatever comes of it."""
        result = self.dbt.start(arguments, run_id=None).wait()
        assert result is not None
        return result

    def refresh(self, *arguments: str) -> None:
        """Every incremental model; fails when dbt does."""
        result = self.dbt_run("run", "--select", INCREMENTAL, *arguments)
        assert result.success, result.output

    def load(self, engine: str, folder: Path, *, allow_void: bool = False) -> LoadReport:
        """Land an engine's extracts."""
        return load_engine(self.settings, self.catalogue, engine, folder, allow_void=allow_void)

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a query gives to the administrator."""
        connection = connect(self.settings)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(query, tuple(parameters) or None)
                return cursor.fetchall() if cursor.description is not None else []
        finally:
            connection.close()
