"""`oversight db`: the embedded server, its address, the state of the schemas."""

import click

from runner.commands.backup import backup, restore
from runner.commands.pg_cron import pg_cron
from warehouse.errors import OversightError


def _example(text: str) -> str:
    return f"\b\nExample:\n  {text}"


@click.group()
def db() -> None:
    """The database: the embedded server, its address, migrations."""


db.add_command(backup)
db.add_command(restore)
db.add_command(pg_cron)


@db.command(epilog=_example("oversight db start"))
def start() -> None:
    """Start the embedded server, making it first where there is none."""
    from warehouse import server
    from warehouse.settings import load_settings

    settings = load_settings()
    _require_embedded(settings.is_embedded)
    server.start(settings)
    click.echo(f"serving at {server.dsn(settings)}")


@db.command(epilog=_example("oversight db stop"))
def stop() -> None:
    """Stop the embedded server; open transactions are rolled back."""
    from warehouse import server
    from warehouse.settings import load_settings

    settings = load_settings()
    _require_embedded(settings.is_embedded)
    server.stop(settings)
    click.echo("stopped")


@db.command(epilog=_example('psql "$(oversight db url)"'))
def url() -> None:
    """Print how to connect as the administrator."""
    from warehouse.database import admin_dsn
    from warehouse.settings import load_settings

    click.echo(admin_dsn(load_settings()))


@db.command(epilog=_example("oversight db migrate"))
def migrate() -> None:
    """Bring the database to the newest state of the migrations and raw tables."""
    from runner.up.first_use import make_raw_tables
    from warehouse import migrate as migrations
    from warehouse.catalogue import read_catalogue
    from warehouse.settings import load_settings

    settings = load_settings()
    done = [f"applied {name}" for name in migrations.migrate(settings)]
    done += make_raw_tables(settings, read_catalogue(settings.project_dir))
    click.echo("\n".join(done) or "nothing to do")


@db.command(epilog=_example("oversight db rollback --to 0002 --yes"))
@click.option("--to", metavar="MIGRATION", help="Keep this one and all before it; else undo all.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def rollback(to: str | None, yes: bool) -> None:
    """Undo migrations, newest first. What they made goes, landed data too."""
    from warehouse import migrate as migrations
    from warehouse.settings import load_settings

    if not yes:
        click.confirm("This deletes the data that these migrations made. Go on?", abort=True)
    undone = migrations.rollback(load_settings(), to=to)
    click.echo("\n".join(f"rolled back {name}" for name in undone) or "nothing to roll back")


def _require_embedded(is_embedded: bool) -> None:
    if not is_embedded:
        raise OversightError(
            "OVERSIGHT_DATABASE_URL is set, so there is no embedded server to start or stop; "
            "unset it to use the embedded one"
        )
