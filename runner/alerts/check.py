"""Alerts: what holds is compared with what was told, and the difference is told, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg2
import structlog
from psycopg2.extensions import cursor as Cursor

from runner.alerts.send import SEND_SECONDS, Message, send, sink_names
from warehouse.database import connect
from warehouse.errors import OversightError
from warehouse.retries import retrying
from warehouse.settings import Settings

MOST_LINES = 20
# A claim outlives the longest sending, so that nobody else tells the same meanwhile; whoever died
# with it is followed by the next check after.
_CLAIM_SECONDS = 3 * SEND_SECONDS

# One statement, one snapshot: what fired, what goes on and what is over. Worse than told is news.
_NOTE = """
with held as materialized (
    select distinct on (key) * from metadata.alert_conditions order by key
),

over as (
    update metadata.alerts as a
    set recovered_at = clock_timestamp()
    where a.recovered_at is null and not exists (select from held as h where h.key = a.key)
)

insert into metadata.alerts as a (key, severity, title, text)
select key, severity, title, text from held
on conflict (key) where recovered_at is null do update
set
    last_seen_at = clock_timestamp(),
    severity = case when a.severity = 'critical' then a.severity else excluded.severity end,
    title = excluded.title,
    text = excluded.text,
    told = case
        when excluded.severity = 'critical' and a.severity = 'warning' then '{}' else a.told
    end
"""
_CLOSE = """
update metadata.alerts
set closed_at = clock_timestamp()
where closed_at is null and recovered_at is not null
    and told @> %(sinks)s::text[] and told_recovered @> %(sinks)s::text[]
"""
_CLAIM = """
update metadata.alerts
set claimed_until = clock_timestamp() + %(claim)s
where closed_at is null
    and (claimed_until is null or claimed_until < clock_timestamp())
    and not (
        told @> %(sinks)s::text[]
        and (recovered_at is null or told_recovered @> %(sinks)s::text[])
    )
returning alert_id, severity, title, text, first_fired_at, recovered_at, told, told_recovered
"""
_TOLD = """
update metadata.alerts
set
    told = case when %(sink)s = any(told) then told else told || %(sink)s::text end,
    told_recovered = case
        when alert_id = any(%(over)s) and not %(sink)s = any(told_recovered)
            then told_recovered || %(sink)s::text
        else told_recovered
    end,
    notified_at = clock_timestamp()
where alert_id = any(%(alerts)s)
"""
_RELEASE = "update metadata.alerts set claimed_until = null where alert_id = any(%(alerts)s)"

log = structlog.get_logger()


@dataclass(frozen=True)
class Alert:
    """An alert as it was claimed; a sink in `told` knows that it fired."""

    alert_id: int
    severity: str
    title: str
    text: str
    first_fired_at: datetime
    recovered_at: datetime | None
    told: list[str]
    told_recovered: list[str]


def check_alerts(settings: Settings) -> None:
    """Note what fired and what is over, and tell each sink what it does not know yet.

    Any number of runners may call it: an alert is told by whoever claims it, and while a sink is
    waited for no connection is open. Ends within SEND_SECONDS and what the database takes; its
    failures are logged and tried again by the next call. A runner killed between a sink's yes and
    the note of it tells that one twice, not never.
    """
    sinks = sink_names(settings.alerts)
    try:
        alerts = _claim(settings, sinks)
        messages = [message for sink in sinks if (message := compose(sink, alerts)) is not None]
        if messages:
            problems = send(settings.alerts, messages, seconds=SEND_SECONDS)
            for sink, problem in problems.items():
                if problem is not None:
                    log.warning("alert sink failed", sink=sink, problem=problem)
            told = [sink for sink, problem in problems.items() if problem is None]
            retrying(seconds=SEND_SECONDS)(_record, settings, sinks, alerts, told)
            log.info("alerts", claimed=len(alerts), told=told)
    except (psycopg2.Error, OversightError, OSError) as error:
        log.warning("alerts not checked", error=str(error).strip())


def _claim(settings: Settings, sinks: Sequence[str]) -> list[Alert]:
    """Compare, and take what some sink does not know. One at a time: an older look must not win."""
    with _transaction(settings) as cursor:
        cursor.execute("select pg_advisory_xact_lock(hashtextextended('oversight alerts', 0))")
        cursor.execute(_NOTE)
        cursor.execute(_CLOSE, {"sinks": sinks})
        cursor.execute(_CLAIM, {"sinks": sinks, "claim": timedelta(seconds=_CLAIM_SECONDS)})
        alerts = [Alert(*row) for row in cursor.fetchall()]
    return sorted(alerts, key=lambda alert: (alert.severity, alert.alert_id))


def _record(
    settings: Settings, sinks: Sequence[str], alerts: Sequence[Alert], told: Sequence[str]
) -> None:
    """Note who knows what by now, and let go of it all; twice is as good as once."""
    ids = [alert.alert_id for alert in alerts]
    over = [alert.alert_id for alert in alerts if alert.recovered_at is not None]
    with _transaction(settings) as cursor:
        for sink in told:
            cursor.execute(_TOLD, {"sink": sink, "alerts": ids, "over": over})
        cursor.execute(_RELEASE, {"alerts": ids})
        cursor.execute(_CLOSE, {"sinks": sinks})


@contextmanager
def _transaction(settings: Settings) -> Iterator[Cursor]:
    """One transaction on a connection of its own, which waits for nothing very long."""
    connection = connect(settings, role="oversight_owner", application_name="oversight alerts")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("set local statement_timeout = '20s'")
            yield cursor
    finally:
        connection.close()


def compose(sink: str, alerts: Sequence[Alert]) -> Message | None:
    """All news for one sink as one message; None when it knows everything."""
    fired = [alert for alert in alerts if sink not in alert.told]
    over = [
        alert
        for alert in alerts
        if alert.recovered_at is not None and sink not in alert.told_recovered
    ]
    if not fired and not over:
        return None
    counts = [f"{len(found)} {word}" for found, word in ((fired, "new"), (over, "over")) if found]
    lines = [
        f"{alert.severity.upper()}: {alert.title}\n  {alert.text}" for alert in fired[:MOST_LINES]
    ]
    lines += [
        f"OVER: {alert.title}, after {_duration(alert.recovered_at - alert.first_fired_at)}"
        for alert in over[:MOST_LINES]
        if alert.recovered_at is not None
    ]
    left_out = max(0, len(fired) - MOST_LINES) + max(0, len(over) - MOST_LINES)
    if left_out:
        lines.append(f"and {left_out} more; `oversight alerts list` shows what holds")
    severities = {alert.severity for alert in fired}
    return Message(
        sink=sink,
        title=f"Oversight: {', '.join(counts)}",
        body="\n".join(lines),
        kind="failure" if "critical" in severities else "warning" if severities else "success",
    )


def _duration(lasted: timedelta) -> str:
    minutes = round(lasted.total_seconds() / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
