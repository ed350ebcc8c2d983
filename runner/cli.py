"""The command line. Commands import what they need when they run, so that `--help` is quick."""

import click

from runner.commands.alerts import alerts
from runner.commands.api import openapi, serve
from runner.commands.backfill import backfill
from runner.commands.cancel import cancel
from runner.commands.database import db
from runner.commands.docs import docs
from runner.commands.key import key
from runner.commands.load import load
from runner.commands.mcp import mcp
from runner.commands.output import print_error, remember, wants_json
from runner.commands.pull import pull
from runner.commands.refresh import refresh, schedule
from runner.commands.retire import retire
from runner.commands.simulate import simulate
from runner.commands.status import status
from warehouse.errors import OversightError


class _Group(click.Group):
    """Turns every OversightError into `error: ...` and exit status 1, in one place.

    With --json every error, wrong arguments too, is `{"error": ...}` on standard output.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        remember(ctx, args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except OversightError as error:
            if wants_json(ctx):
                print_error(ctx, str(error))
            else:
                click.echo(f"error: {error}", err=True)
            ctx.exit(1)
        except click.ClickException as error:
            if not wants_json(ctx):
                raise
            print_error(ctx, error.format_message())
            ctx.exit(error.exit_code)


def _example(text: str) -> str:
    return f"\b\nExample:\n  {text}"


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def main(context: click.Context) -> None:
    """Oversight: a reporting warehouse that people and AI agents can trust."""
    from runner.logs import configure

    configure(is_service=context.invoked_subcommand == "schedule")


_COMMANDS = (
    alerts,
    backfill,
    cancel,
    db,
    docs,
    key,
    load,
    mcp,
    openapi,
    pull,
    refresh,
    retire,
    schedule,
    serve,
    simulate,
    status,
)
for _command in _COMMANDS:
    main.add_command(_command)


@main.command(epilog=_example("oversight up"))
def up() -> None:
    """Start everything and serve: server, migrations, data, API and scheduler.

    The first time it loads demo extracts of a simulated reporting engine. It stays in the
    foreground; Ctrl-C stops all that it started. Run again, it continues with the same data.
    """
    from runner.up.serve import serve_everything
    from warehouse.settings import load_settings

    serve_everything(load_settings(), click.echo)


@main.command(epilog=_example("oversight deploy"))
def deploy() -> None:
    """Check the declarations in the dbt project and make them what is served."""
    from warehouse.catalogue import deploy as deploy_catalogue
    from warehouse.settings import load_settings

    catalogue = deploy_catalogue(load_settings())
    click.echo(
        f"deployed {len(catalogue.sources)} source tables and {len(catalogue.marts)} marts, "
        f"catalogue {catalogue.content_hash[:12]}"
    )


if __name__ == "__main__":
    main()
