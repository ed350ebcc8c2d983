"""GET /metrics: what this server has done, and how the warehouse is at this moment."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from flask import Blueprint, Response, g, request
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.access.auth import require_right
from api.problems import ProblemError
from api.state import State, state
from api.watching.metrics import Joined

blueprint = Blueprint("metrics", __name__)

_READ = """
set transaction read only;
set local role oversight_api;
set local statement_timeout = '5s';
select coalesce(json_agg(m), '[]')::text from metadata.metrics() as m
"""
_TEXTS = {
    "mart_waiting_seconds": "How long landed data has waited for a mart; 0 when none waits.",
    "mart_freshness_sla_seconds": "How long data may wait for a mart.",
    "mart_freshness_lag_seconds": "How old the newest data of a mart is; not what the SLA bounds.",
    "mart_freshness_state": "1 for the state that a mart is in: fresh, late or never.",
    "mart_last_success_timestamp_seconds": "When a mart was last brought up to date.",
    "runner_leader_up": "Whether a runner leads and gave a sign within a minute.",
    "backfills_open": "Backfills that wait, run or are paused.",
    "alerts_firing": "Conditions that operators are told of.",
}


@blueprint.get("/metrics")
def metrics() -> Response:
    """The figures of all processes and organizations, for whoever operates all of them."""
    require_right(g.principal, "operate")
    if not g.principal.sees_all("organization"):
        raise ProblemError(403, "forbidden", "these figures are of all organizations")
    here = state()
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    body = encode(Joined(here.metrics, _Warehouse(here)))
    return Response(body, content_type=content_type)


class _Warehouse(Collector):
    """One read of the database; without it, that it is away."""

    def __init__(self, here: State) -> None:
        self._here = here

    def collect(self) -> Iterator[Metric]:
        """All figures of the warehouse."""
        rows: list[dict[str, Any]] = []
        is_up = True
        try:
            row = self._here.pool.read(_READ)
            rows = json.loads(row[0]) if row else []
        except ProblemError:
            is_up = False
        yield _gauge("database_up", "Whether the database answered.", [((), float(is_up))])
        for name, text in _TEXTS.items():
            found = [
                (tuple(sorted(row["labels"].items())), float(row["value"]))
                for row in rows
                if row["name"] == name
            ]
            if found:
                yield _gauge(name, text, found)


def _gauge(
    name: str, text: str, found: Iterable[tuple[tuple[tuple[str, str], ...], float]]
) -> GaugeMetricFamily:
    found = list(found)
    family = GaugeMetricFamily(
        f"oversight_{name}", text, labels=[label for label, _ in found[0][0]]
    )
    for labels, value in found:
        family.add_metric([value for _, value in labels], value)
    return family
