"""`oversight retire`: what is declared to go, goes."""

import click

from runner.commands.output import json_option, print_json


@click.command(epilog="\b\nExample:\n  oversight retire --dry-run")
@click.option("--dry-run", is_flag=True, help="Say what would go; export and delete nothing.")
@json_option
def retire(dry_run: bool, as_json: bool) -> None:
    """Export and remove rows that the declarations let go.

    Old runs (`retention` in dbt_project.yml), superseded versions of raw records and raw records of
    closed days (`landing.retention` of a source). Everything is first written to `archive` in the
    home folder and read back; then it is deleted, each table whole or not at all.
    """
    from runner.upkeep.retention import holders
    from runner.upkeep.retention import retire as retire_rows
    from warehouse.settings import load_settings

    settings = load_settings()
    done = retire_rows(settings, dry_run=dry_run)
    held_back = holders(settings)
    if as_json:
        print_json({"is_dry_run": dry_run, "retired": done, "held_back": held_back})
        return
    for item in done:
        verb = "would go" if dry_run else "gone"
        why = {
            "age": f"older than {item.before}",
            "superseded": f"superseded, landed before {item.before}",
            "closed_day": f"of days before {item.before}, which are closed",
        }[item.reason]
        where = f"; exported to {item.file}" if item.file else ""
        click.echo(f"{item.table}: {item.rows} rows {verb} ({why}){where}")
    if not done:
        click.echo("nothing to retire")
    for holder in held_back:
        click.echo(
            f"{holder.model} has not taken {holder.batches} landed batches, the oldest of "
            f"{holder.oldest_landed_at:%Y-%m-%d}: their raw rows stay until it is refreshed "
            "(or dropped, if it is declared no more)"
        )
