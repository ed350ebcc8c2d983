"""`oversight pull`: asks engines over HTTP for what is new and lands it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner.commands.load import report_lines
from runner.commands.output import json_option, note_done, print_json

if TYPE_CHECKING:
    from runner.landing.ledger import LoadReport
    from runner.pull.fetch import Fetched


@click.command(
    epilog="\b\nExamples:\n  oversight pull\n  oversight pull oversight --json\n"
    "  oversight pull oversight --all"
)
@click.argument("engine", required=False)
@click.option("--all", "is_whole", is_flag=True, help="From the start, not from where it has read.")
@json_option
def pull(engine: str | None, is_whole: bool, as_json: bool) -> None:
    """Ask ENGINE, or every engine whose address is set, for what is new, and land it.

    How an engine is asked stands in its source's `endpoint`; its address and secret are read from
    the variables that are named there. What comes of one engine is one batch: it lands whole or
    changes nothing, and the next pull goes on from there. With --all, and at a new address,
    ENGINE is asked for everything; what did not change lands as nothing. Ends with 1 when an engine
    failed.
    """
    import os

    from runner.pull.errors import PullError
    from runner.pull.pull import pull as pull_engine
    from runner.pull.pull import scheduled_pulls
    from warehouse import database
    from warehouse.catalogue import deployed
    from warehouse.errors import OversightError
    from warehouse.settings import load_settings

    settings = load_settings()
    connection = database.connect(settings)
    try:
        catalogue = deployed(connection)
    finally:
        connection.close()
    engines = [engine] if engine else sorted(scheduled_pulls(os.environ, catalogue))
    if not engines:
        variables = {table.endpoint.url_variable for table in catalogue.sources if table.endpoint}
        names = " or ".join(sorted(variables)) or "no variable, for no source has an endpoint"
        raise PullError(f"no engine's address is known; set {names}")

    def on_table(name: str, fetched: Fetched) -> None:
        pages = "1 page" if fetched.pages == 1 else f"{fetched.pages:,} pages"
        click.echo(f"  {name}: {fetched.rows:,} records in {pages}", err=True)

    reports: list[LoadReport] = []
    problems: list[str] = []
    note_done(engines=reports)
    for name in engines:
        click.echo(f"asking {name}", err=True)
        try:
            report = pull_engine(settings, catalogue, name, is_whole=is_whole, on_table=on_table)
        except OversightError as error:
            problems.append(str(error))
            continue
        reports.append(report)
        if not as_json:
            click.echo("\n".join(report_lines(report)))
    if problems:
        raise PullError("\n".join(problems))
    if as_json:
        print_json({"engines": reports})
