"""How long landed data waited for a mart, against its SLA: by the hour and by the day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from markupsafe import Markup

from api.pages.charts import Bar, Line, bars
from api.pages.status import DAYS, HOURS
from api.pages.words import counted, instant, span


@dataclass(frozen=True, kw_only=True)
class LagChart:
    """A drawing and the same figures as rows, newest first."""

    title: str
    drawing: Markup
    rows: Sequence[tuple[str, str]]
    summary: str


def lag_charts(mart: str, *, sla_seconds: int, content: dict[str, Any]) -> list[LagChart]:
    """The last 24 hours and the last 30 days of one mart; what waits now is in the newest bars."""
    waiting = content["waiting"].get(mart)
    waits_now = None if waiting is None else float(waiting["seconds"])
    now = instant(content["as_of"])
    hours = [now.replace(minute=0) - timedelta(hours=back) for back in range(HOURS - 1, -1, -1)]
    days = [now - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    return [
        _chart(
            mart,
            kind="hour",
            over=f"last {HOURS} hours",
            places=[(f"{at:%Y-%m-%dT%H}", f"{at:%H}", f"{at:%H}:00") for at in hours],
            waits=_waits(content["hours"], mart),
            waits_now=waits_now,
            sla_seconds=sla_seconds,
            ticks_every=6,
        ),
        _chart(
            mart,
            kind="day",
            over=f"last {DAYS} days",
            places=[(f"{at:%Y-%m-%d}", _day(at), _day(at)) for at in days],
            waits=_waits(content["days"], mart),
            waits_now=waits_now,
            sla_seconds=sla_seconds,
            ticks_every=7,
        ),
    ]


def _chart(
    mart: str,
    *,
    kind: str,
    over: str,
    places: Sequence[tuple[str, str, str]],
    waits: dict[str, float],
    waits_now: float | None,
    sla_seconds: int,
    ticks_every: int,
) -> LagChart:
    waits = {key: waits[key] for key, _, _ in places if key in waits}
    if waits_now is not None:
        newest = places[-1][0]
        waits[newest] = max(waits_now, waits.get(newest, 0.0))
    values = tuple(
        Bar(
            tick=tick,
            value=waits.get(key),
            label=f"{name}: {span(waits[key]) if key in waits else 'nothing landed'}",
        )
        for key, tick, name in places
    )
    rows = [(name, span(waits[key])) for key, _, name in places if key in waits]
    longest = max(waits.values(), default=0.0)
    over_sla = sum(value > sla_seconds for value in waits.values())
    summary = (
        f"Longest {span(longest)}; the SLA is {span(sla_seconds)}, passed in {over_sla} of"
        f" {counted(len(rows), kind)} with data."
        if rows
        else "Nothing landed."
    )
    return LagChart(
        title=f"By {kind}, {over}",
        drawing=bars(
            f"lag-{mart}-{kind}",
            title=f"{mart}: longest wait of landed data by {kind}, {over}",
            description=summary,
            values=values,
            limit=Line(value=sla_seconds, label=f"SLA {span(sla_seconds)}"),
            highest=Line(value=longest, label=span(longest))
            if longest > 1.5 * sla_seconds
            else None,
            ticks_every=ticks_every,
        ),
        rows=rows[::-1],
        summary=summary,
    )


def _waits(rows: Sequence[dict[str, Any]], mart: str) -> dict[str, float]:
    return {row["at"]: float(row["seconds"]) for row in rows if row["mart"] == mart}


def _day(at: datetime) -> str:
    return f"{at.day} {at:%b}"
