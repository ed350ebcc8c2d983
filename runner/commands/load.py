"""`oversight load`: lands extracts and says what became of every record."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.commands.output import json_option, note_done, print_json

if TYPE_CHECKING:
    from runner.landing.ledger import LoadReport

_EXAMPLE = (
    "\b\nExamples:\n  oversight load --path extracts\n  oversight load reddit_ads --path extracts"
)


@click.command(epilog=_EXAMPLE)
@click.argument("engine", required=False)
@click.option(
    "--path",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder with one folder per engine; with ENGINE also the engine's own folder.",
)
@click.option(
    "--allow-void",
    is_flag=True,
    help="Let snapshots withdraw more than max_void_share, and files hold no records.",
)
@click.option("--again", is_flag=True, help="Read files that have landed before, too.")
@json_option
def load(engine: str | None, path: Path, allow_void: bool, again: bool, as_json: bool) -> None:
    """Land the extracts of ENGINE, or of every engine that has a folder in PATH.

    What has landed before is skipped. Each engine is one batch: it lands whole or changes nothing.
    Ends with 1 when a batch or a record was rejected; records of closed days don't count.
    """
    from runner.landing.load import engine_folders, load_engine
    from runner.progress import Progress
    from warehouse import database
    from warehouse.catalogue import deployed
    from warehouse.settings import load_settings

    settings = load_settings()
    connection = database.connect(settings)
    try:
        catalogue = deployed(connection)
    finally:
        connection.close()
    reports: list[LoadReport] = []
    note_done(engines=reports)
    for name, folder in engine_folders(path, catalogue, engine).items():
        with Progress(name) as progress:
            report = load_engine(
                settings,
                catalogue,
                name,
                folder,
                allow_void=allow_void,
                again=again,
                progress=progress.show,
            )
        if not as_json:
            click.echo("\n".join(report_lines(report)), err=report.error is not None)
        reports.append(report)
    is_clean = all(report.is_clean for report in reports)
    if as_json:
        print_json({"is_clean": is_clean, "engines": reports})
    if not is_clean:
        sys.exit(1)


def report_lines(report: LoadReport) -> list[str]:
    """What a person reads of a load: a line per file, then what needs attention."""
    lines = []
    if report.error is not None:
        lines.append(f"{report.engine}: batch {report.batch_id} is rejected, nothing changed:")
        return lines + [f"  {line}" for line in report.error.splitlines()]
    for count in report.files:
        closed = f" + {count.closed} of closed days" if count.closed else ""
        lines.append(
            f"  {count.file_name} -> {count.source_table}: {count.read} read = {count.accepted} "
            f"accepted + {count.rejected} rejected{closed} + {count.unchanged} unchanged"
        )
        if count.undeclared_columns:
            names = ", ".join(count.undeclared_columns)
            lines.append(f"    columns not declared, left out: {names}")
    lines += [
        f"  {name}: skipped, it landed in batch {batch}" for name, batch in report.skipped.items()
    ]
    if report.ignored:
        lines.append(f"  ignored, no table declares them: {', '.join(report.ignored)}")
    lines += [f"  {note}" for note in report.notes]
    if report.voided:
        lines.append(f"  {report.voided} records vanished from their snapshots and are withdrawn")
    rejected = sum(count.rejected + count.closed for count in report.files)
    if rejected:
        lines.append(
            f"  {rejected} records are in staging.rejected_rows (batch_id = {report.batch_id}) "
            "with every reason"
        )
    title = "nothing new" if report.batch_id is None else f"batch {report.batch_id}"
    return [f"{report.engine}: {title}", *lines]
