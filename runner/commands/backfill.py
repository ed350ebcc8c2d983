"""`oversight backfill`: asks for old weeks of an engine again, and says how far that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner.commands.output import json_option, note_done, print_json

if TYPE_CHECKING:
    from runner.backfill.ledger import Progress
    from warehouse.settings import Settings

_EXAMPLES = (
    "\b\nExamples:\n  oversight backfill oversight --from 2026-W01 --to 2026-W12\n"
    "  oversight backfill oversight --from 2026-01-01 --to 2026-03-31 --detach\n"
    "  oversight backfill status 3"
)


class _Group(click.Group):
    """`backfill ENGINE ...` is `backfill start ENGINE ...`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["start", *args]
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, epilog=_EXAMPLES)
def backfill() -> None:
    """Pull old weeks of ENGINE again, week by week: `oversight backfill ENGINE --from --to`.

    A week is done when the marts hold it. What was done is kept, whatever happens to the process;
    the same command, or the runner, goes on from there.
    """


@backfill.command(
    epilog="\b\nExamples:\n  oversight backfill start oversight --from 2026-W01 --to 2026-W12\n"
    "  oversight backfill oversight --from 2026-01-01 --to 2026-03-31 --detach"
)
@click.argument("engine")
@click.option("--from", "first", required=True, metavar="WEEK", help="2026-W05 or a day in it.")
@click.option("--to", "last", required=True, metavar="WEEK", help="The last week, included.")
@click.option("--detach", is_flag=True, help="Leave it to the runner, `oversight schedule`.")
@click.option("--again", is_flag=True, help="Once more, though these weeks were done.")
@json_option
def start(engine: str, first: str, last: str, detach: bool, again: bool, as_json: bool) -> None:
    """Ask for the weeks from --from to --to of ENGINE; `start` may be left out.

    The same request twice is one backfill. It runs in the foreground to its end, Ctrl-C pauses it.
    Ends with 1 when a week failed.
    """
    from runner.backfill.ledger import progress
    from runner.backfill.requests import request_backfill
    from warehouse.backfills import BackfillError
    from warehouse.settings import load_settings
    from warehouse.weeks import parse_week

    settings = load_settings()
    asked = request_backfill(
        settings, engine, parse_week(first), parse_week(last), again=again, is_taken=not detach
    )
    now = progress(settings, asked.backfill_id)
    if asked.is_new:
        click.echo(f"backfill {now.backfill_id}: {now.weeks} weeks of {engine}", err=True)
    else:
        click.echo(f"backfill {now.backfill_id} was asked for before: {now.status}", err=True)
    if now.status in ("paused", "failed", "cancelled"):
        todo = (
            "--again"
            if now.status == "cancelled"
            else f"oversight backfill resume {now.backfill_id}"
        )
        raise BackfillError(f"backfill {now.backfill_id} is {now.status}; go on with `{todo}`")
    if not detach and now.status != "done":
        _run(settings, now)
    _show(progress(settings, now.backfill_id), as_json)


@backfill.command("list", epilog="\b\nExample:\n  oversight backfill list --json")
@json_option
def list_all(as_json: bool) -> None:
    """Every backfill, the newest first."""
    from runner.backfill.ledger import all_progress
    from warehouse.settings import load_settings

    found = all_progress(load_settings())
    if as_json:
        print_json({"backfills": found})
        return
    for now in found:
        click.echo(_line(now))
    if not found:
        click.echo("no backfill was asked for yet")


@backfill.command(epilog="\b\nExample:\n  oversight backfill status 3")
@click.argument("backfill_id", type=int)
@json_option
def status(backfill_id: int, as_json: bool) -> None:
    """How far a backfill is, week by week."""
    from runner.backfill.ledger import progress, weeks_of
    from warehouse.settings import load_settings

    settings = load_settings()
    now = progress(settings, backfill_id)
    weeks = weeks_of(settings, backfill_id)
    if as_json:
        print_json({"backfill": now, "weeks": weeks})
        return
    click.echo(_line(now))
    for week in weeks:
        rows = "" if week["rows_landed"] is None else f"{week['rows_landed']:>10,} rows"
        error = (
            f"  attempt {week['attempt']}: {week['error_message']}" if week["error_message"] else ""
        )
        click.echo(f"  {week['week']}  {week['status']:8}{rows}{error}".rstrip())


@backfill.command(epilog="\b\nExample:\n  oversight backfill pause 3")
@click.argument("backfill_id", type=int)
@json_option
def pause(backfill_id: int, as_json: bool) -> None:
    """Stop a backfill after the week under way, until it is resumed."""
    from runner.backfill.ledger import progress
    from runner.backfill.requests import pause as pause_backfill
    from warehouse.settings import load_settings

    settings = load_settings()
    pause_backfill(settings, backfill_id)
    _show(progress(settings, backfill_id), as_json)


@backfill.command(epilog="\b\nExample:\n  oversight backfill resume 3 --only-failed")
@click.argument("backfill_id", type=int)
@click.option("--only-failed", is_flag=True, help="The weeks that failed, none that was not tried.")
@click.option("--detach", is_flag=True, help="Leave it to the runner, `oversight schedule`.")
@json_option
def resume(backfill_id: int, only_failed: bool, detach: bool, as_json: bool) -> None:
    """Go on with a backfill that is paused, has failed, or whose process is gone."""
    from runner.backfill.ledger import progress
    from runner.backfill.requests import resume as resume_backfill
    from warehouse.settings import load_settings

    settings = load_settings()
    resume_backfill(settings, backfill_id, only_failed=only_failed, is_taken=not detach)
    if not detach:
        _run(settings, progress(settings, backfill_id))
    _show(progress(settings, backfill_id), as_json)


@backfill.command(epilog="\b\nExample:\n  oversight backfill cancel 3")
@click.argument("backfill_id", type=int)
@json_option
def cancel(backfill_id: int, as_json: bool) -> None:
    """End a backfill for good; what its weeks have landed stays."""
    from runner.backfill.ledger import progress
    from runner.backfill.requests import cancel as cancel_backfill
    from warehouse.settings import load_settings

    settings = load_settings()
    cancel_backfill(settings, backfill_id)
    _show(progress(settings, backfill_id), as_json)


def _run(settings: Settings, now: Progress) -> None:
    """Run it here, or wait for who runs it, with a bar."""
    from runner.backfill.backfill import run_backfill
    from runner.backfill.requests import pause as pause_backfill
    from runner.progress import Progress as Bars
    from runner.runs.log import logged_run
    from warehouse.backfills import BackfillError

    said: list[str] = []

    with Bars(f"backfill {now.backfill_id}", unit="weeks") as bars:

        def show(now: Progress) -> None:
            note_done(backfill=now)
            bars.show(_name(now), now.weeks - now.weeks_left, now.weeks)
            if now.status == "pending" and not said:
                said.append("waits for another backfill to end")
                click.echo(said[0], err=True)

        try:
            with logged_run(settings, f"backfill {now.backfill_id}") as run:
                if run.is_skipped:
                    raise BackfillError(
                        f"another command runs backfill {now.backfill_id} already; "
                        f"see `oversight backfill status {now.backfill_id}`"
                    )
                run_backfill(settings, now.backfill_id, run, on_progress=show)
        except KeyboardInterrupt:
            pause_backfill(settings, now.backfill_id)
            click.echo(
                f"paused; go on with `oversight backfill resume {now.backfill_id}`", err=True
            )
            raise


def _show(now: Progress, as_json: bool) -> None:
    if as_json:
        print_json({"backfill": now})
    else:
        click.echo(_line(now))


def _name(now: Progress) -> str:
    return f"{now.engine} {now.first_week} to {now.last_week}"


def _line(now: Progress) -> str:
    done = now.weeks_done + now.weeks_skipped
    parts = [
        f"backfill {now.backfill_id}: {_name(now)} {now.status}",
        f"{done} of {now.weeks} weeks ({now.percent:g} %)",
        f"{now.rows_landed:,} rows",
    ]
    if now.rows_rejected:
        parts.append(f"{now.rows_rejected:,} rejected (staging.rejected_rows says why)")
    if now.running_week:
        parts.append(f"now {now.running_week}")
    if now.failed_weeks:
        parts.append(f"failed {', '.join(now.failed_weeks)}")
    return ", ".join(parts)
