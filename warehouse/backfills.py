"""Which weeks of which engine may be asked for again, by whatever way that is asked."""

from __future__ import annotations

from datetime import date, datetime, timezone

from warehouse.declared import Catalogue
from warehouse.errors import OversightError
from warehouse.weeks import label, mondays

MAX_ATTEMPTS = 3
"""Of each week, before it has failed."""


class BackfillError(OversightError):
    """A backfill can't be asked for, changed or brought to its end; the message says why."""


def weeks_to_ask(
    catalogue: Catalogue, engine: str, first: date, last: date, *, today: date | None = None
) -> list[date]:
    """The Mondays from `first` to `last`, two Mondays.

    Raises BackfillError or WeekError when the engine can't be asked for them.
    """
    check_engine(catalogue, engine)
    today = today or datetime.now(timezone.utc).date()
    weeks = mondays(first, last, most=catalogue.backfill_max_weeks, today=today)
    closed = catalogue.closed_before
    if closed is not None and first < date.fromisoformat(closed):
        raise BackfillError(
            f"the weeks before {label(date.fromisoformat(closed))} are closed (closed_before in "
            "dbt_project.yml): their records would be rejected; begin with that week"
        )
    return weeks


def check_engine(catalogue: Catalogue, engine: str) -> None:
    """Raise BackfillError unless the engine can be asked for the days of a week."""
    if engine not in catalogue.engines:
        known = ", ".join(catalogue.engines) or "none"
        raise BackfillError(f"engine {engine} is not declared; declared are: {known}")
    endpoints = [table.endpoint for table in catalogue.engine_tables(engine) if table.endpoint]
    if not any(endpoint.window for endpoint in endpoints):
        lack = "its endpoints take no window" if endpoints else "it has no endpoint"
        raise BackfillError(
            f"engine {engine} can't be asked for old weeks: {lack} "
            f"(models/staging/{engine}); get the extracts of those weeks and land them with "
            f"`oversight load {engine} --path DIR`"
        )
