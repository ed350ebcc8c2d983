"""The commands that keep marts fresh: `oversight refresh` and `oversight schedule`."""

import click

from runner.commands.output import json_option, print_json


@click.command(epilog="\b\nExample:\n  oversight refresh daily_metrics")
@click.argument("marts", nargs=-1)
@click.option("--full", is_flag=True, help="Recompute everything instead of what changed.")
@json_option
def refresh(marts: tuple[str, ...], full: bool, as_json: bool) -> None:
    """Bring MARTS and the facts below them up to date; without names, all of them.

    Only what landed since the last refresh is recomputed. Exit status 1 when dbt failed.
    """
    from runner.runs.refresh import refresh as run_refresh
    from warehouse.settings import load_settings

    done = run_refresh(load_settings(), marts, full=full)
    if as_json:
        print_json(done)
        return
    if done.status == "skipped_overlap":
        click.echo(f"run {done.run_id} skipped: this job is still running")
        return
    click.echo(f"run {done.run_id}: {done.status}, {done.rows_affected} rows written or removed")
    if done.failed_parity:
        click.echo(
            f"parity: {done.failed_parity} comparisons with the engines' totals fail; "
            "GET /api/reporting/v1/metadata/parity?verdict=failed says which",
            err=True,
        )


@click.command(epilog="\b\nExample:\n  oversight schedule")
def schedule() -> None:
    """Run each mart's refresh at its declared cadence (UTC), until Ctrl-C.

    A newly deployed catalogue is taken over by itself.
    """
    from runner.schedule.daemon import schedule as run_schedule
    from warehouse.settings import load_settings

    run_schedule(load_settings())
