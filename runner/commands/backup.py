"""`oversight db backup` and `oversight db restore`."""

from pathlib import Path

import click

from runner.commands.output import json_option, print_json


@click.command(epilog="\b\nExample:\n  oversight db backup")
@json_option
def backup(as_json: bool) -> None:
    """Write a backup into the home folder and prove it.

    It is restored into a temporary database on the same server, and every table is compared. The
    newest seven that were proved are kept. Everything may go on running meanwhile.
    """
    from runner.progress import Progress
    from runner.upkeep.backup import back_up
    from warehouse.settings import load_settings

    with Progress("backup") as progress:
        done = back_up(load_settings(), progress=progress.show)
    if as_json:
        print_json(done)
        return
    click.echo(f"{done.file}: {done.rows} rows of {done.tables} tables, {done.bytes} bytes, proved")


@click.command(epilog="\b\nExample:\n  oversight db restore oversight-20261120T020000Z.dump")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--yes", is_flag=True, help="Replace what the database holds without asking.")
def restore(file: Path, yes: bool) -> None:
    """Make the database what the backup FILE holds, also on another or a newer server.

    The file is read whole before anything changes, and the database changes in one step. The
    manifest FILE.json beside it says what the tables must hold. Stop what uses the database first.
    """
    from runner.progress import Progress
    from runner.upkeep.restore import restore as restore_file
    from warehouse.settings import load_settings

    def may_replace(where: str) -> bool:
        return yes or click.confirm(f"This replaces all that {where} holds. Go on?")

    with Progress("restore") as progress:
        done = restore_file(load_settings(), file, may_replace=may_replace, progress=progress.show)
    amount = "" if done.rows is None else f" {done.rows} rows of {done.tables} tables;"
    whose = "the same warehouse" if done.is_same_instance else "a warehouse of its own"
    click.echo(f"restored:{amount} it is {whose}, {done.instance_id}")
    for name in done.applied:
        click.echo(f"applied {name}")
    if done.rows is None:
        click.echo("there was no manifest beside the file, so nothing could be compared", err=True)
