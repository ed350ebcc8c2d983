"""The command that serves AI agents: the API's marts as tools of the Model Context Protocol."""

import os
import sys

import click
from click.core import ParameterSource


@click.command(
    epilog="\b\nExamples:\n  OVERSIGHT_API_KEY_FILE=.oversight/reader.key oversight mcp\n"
    "  oversight mcp --http --port 8090"
)
@click.option("--http", "is_http", is_flag=True, help="Serve streamable HTTP at /mcp.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that --http binds.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8090, show_default=True, help="With --http."
)
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A name that --http is reached by, besides this machine's own; repeatable.",
)
@click.pass_context
def mcp(
    context: click.Context, is_http: bool, host: str, port: int, names: tuple[str, ...]
) -> None:
    """Give AI agents the API as tools: on standard input and output, or over HTTP.

    It calls the running API: with OVERSIGHT_API_KEY (or the file OVERSIGHT_API_KEY_FILE) on
    standard input, over HTTP with the key that each caller sends.
    """
    given = {context.get_parameter_source(name) for name in ("host", "port", "names")}
    if not is_http and ParameterSource.COMMANDLINE in given:
        raise click.UsageError("--host, --port and --allow-host belong to --http")
    how = ["http", host, str(port), *names] if is_http else ["stdio"]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "api.mcp", *how])
