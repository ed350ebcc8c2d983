"""`oversight simulate`; apart from the other commands because its scenarios need a page of help."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click

from runner.commands.output import json_option, print_json

SCENARIOS = """
\b
Scenarios; all but steady write DIR/1, DIR/2, ... to be loaded in this order:
  steady      DIR/oversight: complete, control totals agree
  late        a share of the records of past days comes in 2 only
  duplicated  a share of the records twice in 1, and again unchanged in 2
  corrected   2 holds newer versions with other amounts and counts
  moved       2 holds newer versions on another day or at another partner
  withdrawn   2 withdraws a share of the records, 3 reinstates half of those
  drift       control totals in 2 are off at some keys, which are printed
  outage      days are missing from 1 (not from its control totals), come in 2

\b
Examples:
  oversight simulate --path extracts --from 2026-11-01 --to 2026-11-07
  oversight simulate --path big --from 2026-01-01 --to 2026-03-31 --rows 10_000_000
  oversight simulate --path drifted --from 2026-11-01 --to 2026-11-07 \\
      --scenario drift --drift 0.2%
  oversight simulate --serve --from 2026-11-01 --to 2026-11-07 --speed 3600 \\
      --fault 500s=0.2 --fault cut@3,7
"""


def share_of_one(text: str) -> Decimal:
    """Read a share given as a decimal (0.002) or with a percent sign (0.2%)."""
    try:
        share = Decimal(text.removesuffix("%"))
    except InvalidOperation:
        share = Decimal("NaN")
    if not share.is_finite():
        raise click.BadParameter(f"{text!r} is no share: give 0.2% or 0.002")
    return share / 100 if text.endswith("%") else share


DAY = click.DateTime(["%Y-%m-%d"])
MOMENT = click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"])


@click.command("simulate", epilog=SCENARIOS)
@click.option("--path", type=click.Path(path_type=Path), help="Where to write.")
@click.option("--from", "first_day", type=DAY, required=True, help="First day.")
@click.option("--to", "last_day", type=DAY, required=True, help="Last day, included.")
@click.option("--rows", default=10_000, show_default=True, help="Spend and events together.")
@click.option("--seed", default=1, show_default=True, help="Same seed, same bytes.")
@click.option("--scenario", default="steady", show_default=True, help="See below.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    default="csv",
    show_default=True,
)
@click.option("--organizations", default=2, show_default=True, help="All with the same ids.")
@click.option(
    "--organization-prefix",
    default="organization",
    show_default=True,
    help="Ids are PREFIX_001 and so on; give another beside extracts that are there.",
)
@click.option("--partners", default=8, show_default=True, help="Per organization.")
@click.option(
    "--spend-share", type=share_of_one, default="50%", show_default=True, help="Of the rows."
)
@click.option(
    "--share", type=share_of_one, default="5%", show_default=True, help="Records changed."
)
@click.option(
    "--drift", type=share_of_one, default="0.2%", show_default=True, help="Size of the error."
)
@click.option("--drift-keys", default=3, show_default=True, help="At how many keys.")
@click.option("--currency", default="USD", show_default=True)
@click.option("--serve", is_flag=True, help="Serve it over HTTP for `oversight pull` instead.")
@click.option("--port", default=8090, show_default=True, help="Where to serve, on 127.0.0.1.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND[=SHARE|@N,N]",
    help="500s, 429s, slow, cut or repeat: of all requests, a share, or those numbered.",
)
@click.option("--clock", type=MOMENT, help="The served engine's time at the start, in UTC.")
@click.option("--speed", default=0.0, help="Its seconds a second; without --clock from the start.")
@json_option
def simulate(
    path: Path | None,
    first_day: datetime,
    last_day: datetime,
    spend_share: Decimal,
    share: Decimal,
    file_format: Any,
    as_json: bool,
    serve: bool,
    port: int,
    faults: tuple[str, ...],
    clock: datetime | None,
    speed: float,
    **fields: Any,
) -> None:
    """Write native extracts of a reporting engine that does not exist.

    Partners, campaigns, events, spend and control totals for a range of days, ready for
    `oversight load`. Control totals are what the engine knows: exact sums of its records.

    With --serve nothing is written: the engine answers on 127.0.0.1 until Ctrl-C, and shows what it
    knows at its own time, all of it unless --clock or --speed is given.
    """
    from runner.progress import Progress
    from runner.simulation.simulate import Simulation
    from runner.simulation.simulate import simulate as write

    if path is None and not serve:
        raise click.UsageError("give --path, or --serve")
    if serve and as_json:
        raise click.UsageError("an engine that serves has no result; leave out --json")
    specification = Simulation(
        path=path or Path(),
        first_day=first_day.date(),
        last_day=last_day.date(),
        format=file_format,
        spend_share=float(spend_share),
        share=float(share),
        **fields,
    )
    if serve:
        from runner.simulation.serve import serve_until_interrupted

        serve_until_interrupted(
            specification, port=port, faults=faults, clock=clock, speed=speed, say=click.echo
        )
        return
    assert path is not None
    with Progress("simulate") as progress:
        report = write(specification, lambda done, total: progress.show("", done, total))
    if as_json:
        drifts = [drift._asdict() for drift in report.drifts]
        print_json({**vars(report), "drifts": drifts})
        return
    for file in report.files:
        click.echo(f"{file.path.relative_to(path)}: {file.records:,} records")
    for drift in report.drifts:
        click.echo(
            f"drift at {drift.organization_id}, {drift.day}, {drift.partner_id}:"
            f" spend {drift.spend_amount}, control total {drift.control_amount}"
        )
    if report.outage_days:
        click.echo(f"missing from 1: {', '.join(map(str, report.outage_days))}")
    click.echo("load with:")
    for folder in report.folders:
        click.echo(f"  oversight load --path {folder}")
