"""The front of the app, before Flask: names each request, knows who asks, logs how it ended.

What every answer needs is here, so that an answer that is known already need not reach Flask.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from werkzeug.datastructures import Headers
from werkzeug.http import parse_cookie
from werkzeug.wrappers import Request
from werkzeug.wsgi import ClosingIterator

from api import problems, trace
from api.auth import Authenticator, Principal
from api.sessions import COOKIE
from api.trace import Trace

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

EXCHANGE = "oversight.exchange"
OPEN_PREFIX = "/health/"
ADMIN_PREFIX = "/api/admin/"
SLOW_SECONDS = 1.0
_PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MOST_PARAMETERS = 20

log = structlog.get_logger()


@dataclass(kw_only=True)
class Exchange:
    """One request and its answer; `principal` is None where no key is asked for."""

    started: float
    trace: Trace
    principal: Principal | None = None
    status: int = 0

    @property
    def request_id(self) -> str:
        """The name of the request that its caller sees, too."""
        return self.trace.request_id


class Edge:
    """A WSGI application around Flask's own."""

    def __init__(
        self, app: WSGIApplication, *, authenticator: Authenticator, log_share: float
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._log_share = log_share

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; every answer carries the request's id."""
        exchange = Exchange(
            started=time.perf_counter(),
            trace=Trace.of(
                environ.get("HTTP_X_REQUEST_ID", ""),
                environ.get("HTTP_TRACEPARENT", ""),
                share=self._log_share,
            ),
        )
        trace.current.set(exchange.trace)
        environ[EXCHANGE] = exchange

        def start(
            status: str, fields: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            exchange.status = int(status[:3])
            headers = Headers(fields)
            headers["X-Request-Id"] = exchange.request_id
            headers["Server-Timing"] = _server_timing(exchange)
            headers.setdefault("Cache-Control", "private, no-cache")
            headers["Vary"] = "Authorization, Cookie"
            return start_response(status, list(headers), exc_info)

        try:
            body = self._answer(environ, exchange)(environ, start)
        except Exception as error:
            body = problems.of_defect(error, exchange.request_id)(environ, start)
        return ClosingIterator(body, lambda: _finish(environ, exchange))

    def _answer(self, environ: WSGIEnvironment, exchange: Exchange) -> WSGIApplication:
        """Everything but health demands a key, addresses that do not exist included."""
        if not environ.get("PATH_INFO", "").startswith(OPEN_PREFIX):
            try:
                exchange.principal = self._authenticator.principal(
                    environ.get("HTTP_AUTHORIZATION"), _login_cookie(environ)
                )
            except problems.ProblemError as problem:
                return problems.response(problem, exchange.request_id)
        return self._app


def _server_timing(exchange: Exchange) -> str:
    """How long the app took until the answer began, and the database of it, in ms; the trace."""
    here = exchange.trace
    app_ms = (time.perf_counter() - exchange.started) * 1000
    return (
        f"app;dur={app_ms:.1f}, db;dur={here.db_seconds * 1000:.1f},"
        f' traceparent;desc="{here.traceparent}"'
    )


def _login_cookie(environ: WSGIEnvironment) -> str | None:
    """The cookie of a request that changes nothing; others show what only their sender has."""
    if "HTTP_COOKIE" not in environ or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return None
    return parse_cookie(environ).get(COOKIE)


def _finish(environ: WSGIEnvironment, exchange: Exchange) -> None:
    """Log what is sampled, every error, what was slow and every call of an administrator."""
    here, status = exchange.trace, exchange.status
    seconds = time.perf_counter() - exchange.started
    path = environ.get("PATH_INFO", "")
    is_slow = seconds > SLOW_SECONDS
    if not (here.is_sampled or status >= 400 or is_slow or path.startswith(ADMIN_PREFIX)):
        return
    tell = log.error if status >= 500 else log.warning if is_slow else log.info
    tell(
        "request",
        process=os.getpid(),
        method=environ.get("REQUEST_METHOD"),
        path=path,
        parameters=_parameters(environ),
        status=status,
        ms=round(seconds * 1000, 1),
        db_ms=round(here.db_seconds * 1000, 1),
        request_id=here.request_id,
        trace_id=here.trace_id,
        span_id=here.span_id,
        principal=exchange.principal.name if exchange.principal else None,
    )


def _parameters(environ: WSGIEnvironment) -> list[str]:
    """Names as parameters have them; what else stands there may be anybody's name or key."""
    names = [name for name in Request(environ).args if _PARAMETER.fullmatch(name)]
    return sorted(names)[:_MOST_PARAMETERS]
