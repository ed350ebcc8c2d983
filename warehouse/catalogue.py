"""What is declared in the dbt project: read and checked, then deployed to the database."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from psycopg2.extensions import connection as Connection

from warehouse import database, dbt
from warehouse.declaration_checks import (
    check_parents,
    check_readers,
    check_together,
    check_variables,
)
from warehouse.declarations import read_declarations
from warehouse.declared import (
    FEEDS,
    AsOf,
    Catalogue,
    CatalogueError,
    Column,
    ExtractWindow,
    Feed,
    Mart,
    MartColumn,
    MartWindow,
    Role,
    SourceTable,
)
from warehouse.declared_models import ModelReader
from warehouse.declared_roles import read_roles
from warehouse.declared_sources import SourceReader
from warehouse.durations import duration_seconds
from warehouse.settings import Settings
from warehouse.yaml_files import Problem, YamlFile

__all__ = [
    "FEEDS",
    "AsOf",
    "Catalogue",
    "CatalogueError",
    "Column",
    "ExtractWindow",
    "Feed",
    "Mart",
    "MartColumn",
    "MartWindow",
    "Role",
    "SourceTable",
    "deploy",
    "deployed",
    "read_catalogue",
]

_DOCS_BLOCK = re.compile(r"{%-?\s*docs\s+(\w+)\s*-?%}(.*?){%-?\s*enddocs\s*-?%}", re.DOTALL)


def read_catalogue(project_dir: Path) -> Catalogue:
    """Read and check every declaration of a project, without dbt and without a database.

    Raises CatalogueError, which lists every problem as `file:line: key path: what was expected`.
    """
    if not (project_dir / "dbt_project.yml").is_file():
        raise CatalogueError(
            f"{project_dir} holds no dbt_project.yml;"
            " set OVERSIGHT_PROJECT_DIR to the folder that does"
        )
    project, files, problems = read_declarations(project_dir)
    _refuse(problems or check_variables(project))
    variables = project.content.get("vars") or {}
    currency = str(variables.get("reporting_currency"))
    docs = _docs_blocks(project_dir)
    tables: list[SourceTable] = []
    for file in _in_folder(files, "staging"):
        sources = SourceReader(file, docs, currency)
        tables += sources.read()
        problems += sources.problems
    problems += check_parents(tables, files)
    feeds: list[Feed] = []
    marts: list[Mart] = []
    for file in _in_folder(files, "staging"):
        models = ModelReader(file, project_dir, docs)
        feeds += models.feeds(tables)
        problems += models.problems
    for file in _in_folder(files, "reporting"):
        models = ModelReader(file, project_dir, docs)
        marts += models.marts()
        problems += models.problems
    roles, found = read_roles(project_dir)
    _refuse([*problems, *found])
    _refuse(check_together(project_dir, files, tables, marts, feeds))
    _refuse(check_readers(files, roles))
    return Catalogue(
        sources=tuple(sorted(tables, key=lambda table: (table.engine, table.name))),
        feeds=tuple(sorted(feeds, key=lambda feed: feed.model)),
        marts=tuple(sorted(marts, key=lambda mart: mart.name)),
        roles=roles,
        reporting_timezone=str(variables.get("reporting_timezone")),
        reporting_currency=currency,
        nightly=variables.get("nightly"),
        weekly=variables.get("weekly"),
        retention={
            name: duration_seconds(kept)
            for name, kept in sorted((variables.get("retention") or {}).items())
        },
        closed_before=str(variables["closed_before"]) if variables.get("closed_before") else None,
        backfill_max_weeks=variables.get("backfill_max_weeks", 52),
    )


def deploy(settings: Settings, target_path: Path | None = None) -> Catalogue:
    """Check the project, have dbt parse it, and make its catalogue the one that is served.

    In `target_path` dbt leaves what it parsed, so that a build there need not parse again.

    An unchanged catalogue leaves the database as it is. Raises CatalogueError when the
    declarations or dbt's parse say no; what is served stays as it was.
    """
    catalogue = read_catalogue(settings.project_dir)
    with tempfile.TemporaryDirectory(prefix="oversight-parse-") as folder:
        parsed = dbt.run(
            settings,
            *("--warn-error", "parse", "--no-partial-parse", "--log-path", folder),
            target_path=target_path or Path(folder),
        )
    if parsed.returncode != 0:
        output = (parsed.stdout or parsed.stderr).strip()
        raise CatalogueError(f"dbt can't parse {settings.project_dir}:\n{output}")
    connection = database.connect(settings, role="oversight_owner")
    try:
        _store(connection, catalogue)
        connection.commit()
    finally:
        connection.close()
    return catalogue


def deployed(connection: Connection) -> Catalogue:
    """The catalogue that is served; CatalogueError when none was deployed yet."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select content::text from metadata.catalogue order by catalogue_id desc limit 1"
        )
        row = cursor.fetchone()
    if row is None:
        raise CatalogueError("no catalogue is deployed yet; run `oversight deploy`")
    return Catalogue.from_json(str(row[0]))


def _store(connection: Connection, catalogue: Catalogue) -> None:
    """Write the catalogue as the newest; one that returns to an older form is newest again."""
    with connection.cursor() as cursor:
        cursor.execute("lock table metadata.catalogue in share row exclusive mode")
        cursor.execute(
            "select content_hash from metadata.catalogue order by catalogue_id desc limit 1"
        )
        newest = cursor.fetchone()
        if newest is not None and newest[0] == catalogue.content_hash:
            return
        cursor.execute(
            "delete from metadata.catalogue where content_hash = %s", (catalogue.content_hash,)
        )
        cursor.execute(
            "insert into metadata.catalogue (content_hash, content) values (%s, %s)",
            (catalogue.content_hash, catalogue.to_json()),
        )
        cursor.execute("select pg_notify('oversight_catalogue', %s)", (catalogue.content_hash,))


def _in_folder(files: Iterable[YamlFile], layer: str) -> list[YamlFile]:
    return [file for file in files if file.name.startswith(f"models/{layer}/")]


def _docs_blocks(project_dir: Path) -> dict[str, str]:
    """The texts of all `{% docs name %}` blocks below models."""
    blocks: dict[str, str] = {}
    for path in sorted((project_dir / "models").rglob("*.md")):
        for name, text in _DOCS_BLOCK.findall(path.read_text(encoding="utf-8")):
            blocks[name] = text.strip()
    return blocks


def _refuse(problems: Iterable[Problem]) -> None:
    """Raise the CatalogueError that lists the problems by file and line; none is well."""
    found = sorted(set(problems), key=lambda problem: (problem.file, problem.line, str(problem)))
    if found:
        count = f"{len(found)} problem{'s' if len(found) > 1 else ''}"
        lines = "\n".join(f"  {problem}" for problem in found)
        raise CatalogueError(f"the declarations have {count}:\n{lines}")
