"""The front of the app, before Flask: names each request, knows who asks, logs how it ended.

What every answer needs is here, so that an answer that is known already need not reach Flask.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request
from werkzeug.wsgi import ClosingIterator

from api import problems
from api.auth import Authenticator, Principal

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

EXCHANGE = "oversight.exchange"
OPEN_PREFIX = "/health/"
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

log = structlog.get_logger()


@dataclass(kw_only=True)
class Exchange:
    """One request and its answer; `principal` is None where no key is asked for."""

    started: float
    request_id: str
    principal: Principal | None = None
    status: int = 0


class Edge:
    """A WSGI application around Flask's own."""

    def __init__(self, app: WSGIApplication, *, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; every answer carries the request's id."""
        sent = environ.get("HTTP_X_REQUEST_ID", "")
        exchange = Exchange(
            started=time.perf_counter(),
            request_id=sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex,
        )
        environ[EXCHANGE] = exchange

        def start(
            status: str, fields: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            exchange.status = int(status[:3])
            headers = Headers(fields)
            headers["X-Request-Id"] = exchange.request_id
            headers.setdefault("Cache-Control", "private, no-cache")
            headers["Vary"] = "Authorization"
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
                    environ.get("HTTP_AUTHORIZATION")
                )
            except problems.ProblemError as problem:
                return problems.response(problem, exchange.request_id)
        return self._app


def _finish(environ: WSGIEnvironment, exchange: Exchange) -> None:
    log.info(
        "request",
        process=os.getpid(),
        method=environ.get("REQUEST_METHOD"),
        path=environ.get("PATH_INFO"),
        parameters=sorted(Request(environ).args),
        status=exchange.status,
        ms=round((time.perf_counter() - exchange.started) * 1000, 1),
        request_id=exchange.request_id,
        principal=exchange.principal.name if exchange.principal else None,
    )
