"""`oversight alerts`: try the sinks, see what is open."""

from __future__ import annotations

import click

from runner.commands.output import json_option, print_json


@click.group()
def alerts() -> None:
    """What operators are told, and where to."""


@alerts.command(
    epilog="\b\nExample:\n  OVERSIGHT_ALERTS=json://127.0.0.1:9000 oversight alerts test"
)
def test() -> None:
    """Send a test message to every address of OVERSIGHT_ALERTS; 1 when one did not take it."""
    from runner.alerts.send import Message, send, sink_names
    from warehouse.errors import OversightError
    from warehouse.settings import load_settings

    urls = load_settings().alerts
    if not urls:
        raise OversightError(
            "OVERSIGHT_ALERTS is not set; it holds one or more addresses, such as "
            "slack://token or mailto://user:password@host, separated by commas"
        )
    title = "Oversight: a test"
    body = "This is what `oversight alerts test` sends; nothing is wrong."
    problems = send(
        urls,
        [Message(sink=sink, title=title, body=body, kind="info") for sink in sink_names(urls)],
    )
    for sink, problem in problems.items():
        click.echo(f"{sink}: {problem or 'sent'}", err=problem is not None)
    if any(problems.values()):
        click.get_current_context().exit(1)


@alerts.command(name="list", epilog="\b\nExample:\n  oversight alerts list --json")
@json_option
def list_(as_json: bool) -> None:
    """Show what holds now, and since when it is known."""
    from runner.status.read import open_alerts
    from warehouse.settings import load_settings

    found = open_alerts(load_settings())
    if as_json:
        print_json({"alerts": found})
        return
    for alert in found:
        click.echo(f"{alert['severity']}: {alert['title']}\n  {alert['text']}")
    if not found:
        click.echo("nothing is wrong")
