"""The status as a person reads it: one screen of 80 columns, or plain lines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

MOST_MARTS = 20
MOST_WIDE_COLUMNS = 6
SHORTEST_NAME = 8
SILENT_SECONDS = 15
"""A leader says that it lives every second or so; one silent for longer is in doubt."""
_NAMES = {"mart", "organization", "job", "cadence", "engine", "asked by"}
_STYLES = {
    "late": "red",
    "failed": "red",
    "abandoned": "red",
    "overdue": "red",
    "critical": "red",
    "never": "yellow",
    "missed": "yellow",
    "warning": "yellow",
    "running": "cyan",
    "fresh": "green",
    "success": "green",
}


@dataclass
class Section:
    """A table of the screen; a column marked with > stands to the right."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    more: str | None = None


def sections(status: dict[str, Any]) -> list[Section]:
    """Every part that has something to say."""
    now: datetime = status["as_of"]
    found = [_marts(status["marts"], now), _jobs(status["jobs"], now)]
    running = Section("running", ["run>", "job", "for>", "last sign"])
    for run in status["running"]:
        silent = f"{duration(run['silent_seconds'])} ago"
        running.rows.append([str(run["run_id"]), run["job_name"], duration(run["seconds"]), silent])
    requests = Section("requests", ["request>", "kind", "state", "asked by", "waits>"])
    for item in status["requests"]:
        requests.rows.append(
            [
                str(item["request_id"]),
                item["kind"],
                item["status"],
                item["requested_by"],
                age(item["requested_at"], now),
            ]
        )
    backfills = Section("backfills", ["backfill>", "engine", "weeks", "state", "left>", "done>"])
    for item in status["backfills"]:
        backfills.rows.append(
            [
                str(item["backfill_id"]),
                item["engine"],
                f"{item['first_week']} to {item['last_week']}",
                item["status"],
                str(item["weeks_left"]),
                f"{item['percent']:g} %",
            ]
        )
    parity = Section("parity", ["mart", "organization", "failing keys>"])
    for item in status["parity"]:
        parity.rows.append([item["mart"], item["organization_id"], str(item["failed_keys"])])
    rejected = Section("rejected", ["engine", "records in 7 days>"])
    for item in status["rejected"]:
        rejected.rows.append([item["engine"], str(item["records"])])
    return [part for part in (*found, running, requests, backfills, parity, rejected) if part.rows]


def head(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Who leads and what waits, as label and text."""
    now: datetime = status["as_of"]
    leader = status["leader"]
    if leader is None:
        leads = "nobody; start one with `oversight schedule`"
    else:
        leads = (
            f"{leader['runner']}, for {age(leader['since'], now)}, epoch {leader['epoch']}, "
            f"heartbeat {age(leader['heartbeat_at'], now)} ago"
        )
        if leader["silent_seconds"] is None or leader["silent_seconds"] > SILENT_SECONDS:
            leads += "; nobody leads now"
    marts = status["marts"]
    waiting = sum(mart["waiting_batches"] for mart in marts)
    return [
        ("as of", f"{now:%Y-%m-%d %H:%M:%S} UTC"),
        ("leader", leads),
        ("waiting", f"{_count(waiting, 'batch', 'batches')} over all marts"),
    ]


def show(status: dict[str, Any], console: Console) -> None:
    """Tables on a terminal, elsewhere a line for each row that says all by itself."""
    if console.is_terminal:
        _show_tables(status, console)
        return
    for label, text in head(status):
        console.print(f"{label}: {text}", **_PLAIN)
    for section in sections(status):
        names = [column.rstrip(">") for column in section.columns]
        for row in section.rows:
            said = ", ".join(
                cell if number == 0 else f"{name} {cell}"
                for number, (name, cell) in enumerate(zip(names, row, strict=True))
                if cell
            )
            console.print(f"{section.title}: {said}", **_PLAIN)
        if section.more:
            console.print(f"{section.title}: {section.more}", **_PLAIN)
    for alert in status["alerts"]:
        console.print(f"alert: {alert['severity']}: {alert['title']}: {alert['text']}", **_PLAIN)


_PLAIN: Any = {"soft_wrap": True, "markup": False, "highlight": False}


def _show_tables(status: dict[str, Any], console: Console) -> None:
    for label, text in head(status):
        style = "red" if "nobody" in text else ""
        console.print(Text.assemble((f"{label:<9}", "bold"), (text, style)))
    for section in sections(status):
        console.print()
        gap = 1 if len(section.columns) > MOST_WIDE_COLUMNS else 2
        table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")
        widths = fitting_widths(section, console.width, gap)
        for column, width in zip(section.columns, widths, strict=True):
            table.add_column(
                column.rstrip(">"),
                justify="right" if column.endswith(">") else "left",
                width=width,
                overflow="ellipsis",
                no_wrap=True,
            )
        for row in section.rows:
            table.add_row(*(Text(cell, style=_STYLES.get(cell.split(" ")[0], "")) for cell in row))
        console.print(Text(section.title, style="bold"))
        console.print(table)
        if section.more:
            console.print(Text(section.more, style="dim"))
    if status["alerts"]:
        console.print()
        console.print(Text("alerts", style="bold"))
    for alert in status["alerts"]:
        severity = alert["severity"]
        console.print(Text.assemble((f"{severity:<9}", _STYLES[severity]), alert["title"]))
        console.print(Padding(Text(alert["text"], style="dim"), (0, 0, 0, 9)))


def fitting_widths(section: Section, width: int, gap: int) -> list[int]:
    """As wide as the widest cell; names, and only they, are cut short until the line fits."""
    names = [column.rstrip(">") for column in section.columns]
    widths = [max(map(len, cells)) for cells in zip(names, *section.rows, strict=True)]
    shorter = [number for number, name in enumerate(names) if name in _NAMES]
    while sum(widths) + gap * (len(widths) - 1) > width:
        widest = max(shorter, key=lambda number: widths[number], default=None)
        if widest is None or widths[widest] <= SHORTEST_NAME:
            break
        widths[widest] -= 1
    return widths


def _marts(marts: Iterable[dict[str, Any]], now: datetime) -> Section:
    section = Section(
        "marts", ["mart", "organization", "status", "refreshed>", "waits>", "SLA>", "kept>"]
    )
    found = list(marts)
    for mart in found[:MOST_MARTS]:
        section.rows.append(
            [
                mart["mart"],
                mart["organization_id"] or "-",
                mart["status"],
                age(mart["last_refresh_at"], now),
                age(mart["waiting_since"], now),
                duration(mart["sla_seconds"]),
                share(mart["sla_share"]),
            ]
        )
    rest = found[MOST_MARTS:]
    if rest:
        troubled = sum(mart["status"] != "fresh" for mart in rest)
        section.more = f"and {len(rest)} more, {troubled} of them not fresh; --json has them all"
    return section


def _jobs(jobs: Iterable[dict[str, Any]], now: datetime) -> Section:
    section = Section("jobs", ["job", "cadence", "state", "last run>", "rows>"])
    for job in jobs:
        state = job["status"] or "not yet"
        if job["overdue_slots"]:
            state = f"overdue {age(job['overdue_since'], now)}"
        rows = "" if job["rows_affected"] is None else str(job["rows_affected"])
        section.rows.append(
            [job["job_name"], job["cadence"], state, age(job["started_at"], now), rows]
        )
    return section


def age(moment: datetime | None, now: datetime) -> str:
    """How long ago, in the two figures that matter; a dash when never."""
    return "-" if moment is None else duration((now - moment).total_seconds())


def duration(seconds: float) -> str:
    """Such as 4 s, 12 min, 3 h or 5 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit != "d" and seconds >= size and seconds % size == 0):
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def share(value: float | None) -> str:
    """A share in percent, rounded down: 100 % means all."""
    return "-" if value is None else f"{int(value * 1000) / 10:.1f} %"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
