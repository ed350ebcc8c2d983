"""How a request ended: its figures, its line in the log, its Server-Timing."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

import structlog
from werkzeug.wrappers import Request

from api.front.exchange import Exchange
from api.state import PREFIX
from api.watching.metrics import Metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask import Flask

    from api.front.answers import Answers
    from api.reporting.deployed import DeployedCatalogue

ADMIN_PREFIX = "/api/admin/"
SLOW_SECONDS = 1.0
NO_ROUTE = "(none)"
_ANY_MART = f"{PREFIX}/<path:mart_path>"
_PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MOST_PARAMETERS = 20

log = structlog.get_logger()


class Routes:
    """The address of a request as it is declared, since what a caller wrote could be anything."""

    def __init__(self, app: Flask, catalogue: DeployedCatalogue) -> None:
        self._catalogue = catalogue
        self._fixed = {rule.rule for rule in app.url_map.iter_rules() if not rule.arguments}

    def of(self, path: str, rule: str | None) -> str:
        """The route of a path; `rule` is the one that Flask found, if it was asked."""
        if path in self._fixed:
            return path
        served = self._catalogue.known
        if served is not None and path.removeprefix(f"{PREFIX}/") in served.marts:
            return path
        return NO_ROUTE if rule is None or rule == _ANY_MART else rule


class Watch:
    """Counts every request; logs errors, slow ones, calls of administrators, and a share."""

    def __init__(self, metrics: Metrics, routes: Routes, answers: Answers) -> None:
        self._metrics = metrics
        self._routes = routes
        self._answers = answers
        self._hits = metrics.answers.labels("hit")
        self._misses = metrics.answers.labels("miss")
        self._bypasses = metrics.answers.labels("bypass")

    def begin(self) -> None:
        """A request came."""
        self._metrics.in_flight.inc()

    def end(self, environ: WSGIEnvironment, exchange: Exchange) -> None:
        """Its answer has gone."""
        seconds = time.perf_counter() - exchange.started
        metrics = self._metrics
        metrics.in_flight.dec()
        path, method = environ.get("PATH_INFO", ""), environ.get("REQUEST_METHOD", "")
        route = self._routes.of(path, exchange.rule)
        metrics.answered(route, method, exchange.status, seconds)
        if exchange.is_report:
            self._count_report(exchange)
        if exchange.trace.problem is not None:
            metrics.problems.labels(exchange.trace.problem).inc()
        if exchange.status == 429:
            metrics.refusals.labels(exchange.principal.tier if exchange.principal else "none").inc()
        is_slow = seconds > SLOW_SECONDS
        is_admin = path.startswith(ADMIN_PREFIX)
        if exchange.trace.is_sampled or exchange.status >= 400 or is_slow or is_admin:
            _log(environ, exchange, route, seconds)

    def _count_report(self, exchange: Exchange) -> None:
        if exchange.is_known:
            self._hits.inc()
            return
        (self._misses if self._answers.is_current else self._bypasses).inc()
        self._metrics.answers_bytes.set(self._answers.bytes)


def server_timing(exchange: Exchange) -> str:
    """How long the app took until the answer began, and the database of it, in ms; the trace."""
    here = exchange.trace
    app_ms = (time.perf_counter() - exchange.started) * 1000
    return (
        f"app;dur={app_ms:.1f}, db;dur={here.db_seconds * 1000:.1f},"
        f' traceparent;desc="{here.traceparent}"'
    )


def _log(environ: WSGIEnvironment, exchange: Exchange, route: str, seconds: float) -> None:
    here, status = exchange.trace, exchange.status
    tell = log.error if status >= 500 else log.warning if seconds > SLOW_SECONDS else log.info
    tell(
        "request",
        process=os.getpid(),
        method=environ.get("REQUEST_METHOD"),
        route=route,
        path=environ.get("PATH_INFO") if route != NO_ROUTE else None,
        parameters=_parameters(environ),
        status=status,
        problem=here.problem,
        ms=round(seconds * 1000, 1),
        db_ms=round(here.db_seconds * 1000, 1),
        request_id=here.request_id,
        trace_id=here.trace_id,
        span_id=here.span_id,
        principal=exchange.principal.id if exchange.principal else None,
    )


def _parameters(environ: WSGIEnvironment) -> list[str]:
    """Names as parameters have them; what else stands there may be anybody's name or key."""
    names = [name for name in Request(environ).args if _PARAMETER.fullmatch(name)]
    return sorted(names)[:_MOST_PARAMETERS]
