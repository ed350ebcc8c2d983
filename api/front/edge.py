"""The front of the app, before Flask: names each request, knows who asks, logs how it ended.

What every answer needs is here, and an answer that is known already does not reach Flask.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.sansio.http import parse_cookie
from werkzeug.wsgi import ClosingIterator

from api import problems
from api.access.auth import Authenticator
from api.access.rates import Rates
from api.access.sessions import COOKIE
from api.front.answers import Answers, Known
from api.front.bodies import Bodies
from api.front.exchange import EXCHANGE, Exchange, private
from api.state import PREFIX
from api.watching import trace
from api.watching.trace import Trace
from api.watching.watch import ADMIN_PREFIX, Watch, server_timing

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

OPEN = ("/login", "/logout")
OPEN_PREFIXES = ("/health/", "/static/")
PAGES = ("/", "/docs", "/docs/", "/docs/warehouse")
_READS = ("GET", "HEAD")


class Edge:
    """A WSGI application around Flask's own."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        authenticator: Authenticator,
        rates: Rates,
        answers: Answers,
        watch: Watch,
        log_share: float,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._rates = rates
        self._answers = answers
        self._watch = watch
        self._bodies = Bodies()
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
        self._watch.begin()
        environ[EXCHANGE] = exchange

        def start(
            status: str, fields: list[tuple[str, str]], exc_info: Any = None
        ) -> Callable[[bytes], object]:
            exchange.status = int(status[:3])
            return start_response(status, _complete(private(fields), exchange), exc_info)

        try:
            answer = self._answer(environ, exchange)
            if isinstance(answer, Known):
                return self._give(answer, environ, exchange, start_response)
            body = answer(environ, start)
            if exchange.is_streamed:
                return ClosingIterator(body, lambda: self._watch.end(environ, exchange))
        except Exception as error:
            body = problems.of_defect(error, exchange.request_id)(environ, start)
        return self._whole(body, environ, exchange)

    def _answer(self, environ: WSGIEnvironment, exchange: Exchange) -> WSGIApplication | Known:
        """Everything but health, style and login demands a key, also what does not exist."""
        path: str = environ.get("PATH_INFO", "")
        if path.startswith(OPEN_PREFIXES):
            return self._app
        try:
            if path in OPEN:
                self._bodies.read(environ, is_stranger=True)
                return self._app
            exchange.principal = self._authenticator.principal(
                environ.get("HTTP_AUTHORIZATION"),
                _login_cookie(environ),
                address=environ.get("REMOTE_ADDR", ""),
            )
            self._rates.count(exchange.principal, exchange.headers)
            if path.startswith(ADMIN_PREFIX):
                self._bodies.read(environ, is_stranger=False)
        except problems.ProblemError as problem:
            # Refused calls of the administration go to the audit trail, when it is known whose.
            is_noted = exchange.principal is not None and path.startswith(ADMIN_PREFIX)
            if not is_noted and not _is_page(environ):
                return problems.response(problem, exchange.request_id)
            exchange.problem = problem
        if path.startswith(PREFIX) and environ["REQUEST_METHOD"] in _READS:
            exchange.is_report = True
            return self._answers.find(environ, exchange) or self._app
        return self._app

    def _give(
        self,
        known: Known,
        environ: WSGIEnvironment,
        exchange: Exchange,
        start_response: StartResponse,
    ) -> list[bytes]:
        """A known answer, or that the caller has it already."""
        exchange.is_known = True
        if_none_match = environ.get("HTTP_IF_NONE_MATCH")
        if if_none_match is not None and known.is_what(if_none_match):
            exchange.status = 304
            start_response("304 NOT MODIFIED", _complete(known.validators, exchange))
            body = []
        else:
            exchange.status = 200
            start_response("200 OK", _complete(known.headers, exchange))
            body = [known.body] if environ["REQUEST_METHOD"] == "GET" else []
        self._watch.end(environ, exchange)
        return body

    def _whole(
        self, body: Iterable[bytes], environ: WSGIEnvironment, exchange: Exchange
    ) -> list[bytes]:
        """An answer in one piece: the server sends a list at once, and the log has it by then."""
        try:
            return list(body)
        finally:
            if close := getattr(body, "close", None):
                close()
            self._watch.end(environ, exchange)


def _is_page(environ: WSGIEnvironment) -> bool:
    """Whether a browser shows the answer to a person: Flask makes a page of the problem."""
    return (
        environ.get("PATH_INFO", "") in PAGES
        and environ["REQUEST_METHOD"] in _READS
        and "text/html" in environ.get("HTTP_ACCEPT", "")
    )


def _complete(fields: list[tuple[str, str]], exchange: Exchange) -> list[tuple[str, str]]:
    """The headers with those that are of this request alone."""
    return [
        *fields,
        ("X-Request-Id", exchange.request_id),
        ("Server-Timing", server_timing(exchange)),
        *exchange.headers,
    ]


def _login_cookie(environ: WSGIEnvironment) -> str | None:
    """The cookie of a request that changes nothing; others show what only their sender has."""
    if "HTTP_COOKIE" not in environ or environ["REQUEST_METHOD"] not in _READS:
        return None
    return parse_cookie(environ["HTTP_COOKIE"]).get(COOKIE)
