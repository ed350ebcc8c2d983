"""The commands around the API: serve it, describe it."""

import os
import sys

import click


@click.command(epilog="\b\nExample:\n  OVERSIGHT_API_PORT=8081 oversight serve")
def serve() -> None:
    """Serve the API until Ctrl-C; the database and a deployed catalogue should be there."""
    # The runner never imports the API: this process becomes it, so that signals reach it.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "api.server"])


@click.command(
    epilog="\b\nExamples:\n  oversight openapi > api/openapi.json\n  oversight openapi --check"
)
@click.option("--check", is_flag=True, help="Say how api/openapi.json differs, if it does.")
def openapi(check: bool) -> None:
    """Print the OpenAPI description of what the project declares."""
    sys.stdout.flush()
    arguments = ["--check"] if check else []
    os.execv(sys.executable, [sys.executable, "-m", "api.description.openapi", *arguments])
