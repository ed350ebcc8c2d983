"""`oversight status`: who leads, how fresh everything is, what runs and what is wrong."""

from __future__ import annotations

import click

from runner.commands.output import json_option, print_json


@click.command(epilog="\b\nExamples:\n  oversight status\n  oversight status --json")
@json_option
def status(as_json: bool) -> None:
    """Show who leads, how fresh each mart is, the last run of each job, and what is wrong.

    It asks the database, so it tells the truth when no runner lives. `refreshed` and `last run`
    say how long ago, `waits` how long landed data has waited for the mart, which the SLA bounds;
    `kept` is the share of the last 30 days' slots that met it. Ends with 0 whatever it shows.
    """
    from runner.status.read import read_status
    from warehouse.settings import load_settings

    found = read_status(load_settings())
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from runner.status.show import show

    show(found, Console())
