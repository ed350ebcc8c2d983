"""`oversight db pg-cron`: let the database keep time instead of the runner."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from runner.commands.output import json_option, print_json

if TYPE_CHECKING:
    from runner.schedule.cron_status import JobStatus


def _example(text: str) -> str:
    return f"\b\nExample:\n  {text}"


@click.group(name="pg-cron")
def pg_cron() -> None:
    """Let the database keep time: pg_cron asks any runner for each job when it is due."""


@pg_cron.command(epilog=_example("oversight db pg-cron install"))
@json_option
def install(as_json: bool) -> None:
    """Make pg_cron the clock of every job; run it again after cadences have changed.

    Runners (`oversight schedule`) still do the work. A job that pg_cron can't keep stays with them.
    """
    from runner.schedule.pg_cron import install as do_install
    from warehouse.settings import load_settings

    done = do_install(load_settings())
    if as_json:
        print_json(done)
        return
    for title, jobs in (
        ("scheduled", done.scheduled),
        ("unchanged", done.unchanged),
        ("unscheduled", done.unscheduled),
    ):
        if jobs:
            click.echo(f"{title}: {', '.join(jobs)}")
    for job, reason in done.kept.items():
        click.echo(f"the runner keeps the time of {job}: {reason}")


@pg_cron.command(epilog=_example("oversight db pg-cron remove"))
@json_option
def remove(as_json: bool) -> None:
    """Give the time back to the runner and unschedule what `install` scheduled, nothing else."""
    from runner.schedule.pg_cron import remove as do_remove
    from warehouse.settings import load_settings

    jobs = do_remove(load_settings())
    if as_json:
        print_json({"unscheduled": jobs})
        return
    click.echo(f"unscheduled: {', '.join(jobs)}" if jobs else "pg_cron held nothing of ours")


@pg_cron.command(epilog=_example("oversight db pg-cron status"))
@json_option
def status(as_json: bool) -> None:
    """Show each job as it is declared and as pg_cron holds it, and what to do where they differ."""
    from runner.schedule.cron_status import status as find_status
    from warehouse.settings import load_settings

    jobs = find_status(load_settings())
    if as_json:
        print_json({"is_well": not any(job.problem for job in jobs), "jobs": jobs})
        return
    width = max((len(job.job) for job in jobs), default=0)
    for job in jobs:
        click.echo(f"{job.job.ljust(width)}  {_line(job)}")
        if job.problem:
            click.echo(f"{' ' * width}  ! {job.problem}")
    if not jobs:
        click.echo("no job is declared")


def _line(job: JobStatus) -> str:
    parts = [f"declared {job.cadence}" if job.cadence else "not declared"]
    if job.pg_cron_cadence is None:
        parts.append("not in pg_cron")
    else:
        parts.append(f"pg_cron {job.pg_cron_cadence}{'' if job.is_active else ' (off)'}")
    if job.last_run_at:
        parts.append(f"last {job.last_status} {_utc(job.last_run_at)}")
    if job.next_slot:
        parts.append(f"next {_utc(job.next_slot)}")
    return "; ".join(parts)


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%MZ}"
