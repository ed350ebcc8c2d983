"""Every error of the API in one shape, RFC 9457 problem details, with nothing of the inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, g, json
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from api.watching import trace
from warehouse.errors import OversightError

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:oversight:problem:"

log = structlog.get_logger()


class ApiError(OversightError):
    """The API cannot be started or reached as configured."""


@dataclass(frozen=True, kw_only=True)
class ParameterError:
    """What is wrong with one query parameter; `parameter` is its name in the URL."""

    parameter: str
    message: str


@dataclass(eq=False)
class ProblemError(Exception):
    """An answer that is not 200; `code` is stable for programs, `detail` is for people."""

    status: int
    code: str
    detail: str
    errors: Sequence[ParameterError] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> dict[str, Any]:
        """The members of the problem document."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.code,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        if self.errors:
            document["errors"] = [
                {"parameter": error.parameter, "message": error.message} for error in self.errors
            ]
        return document | dict(self.extra)


def bad_request(errors: Sequence[ParameterError], **extra: Any) -> ProblemError:
    """400 that names each wrong parameter."""
    detail = "; ".join(f"{error.parameter}: {error.message}" for error in errors)
    return ProblemError(400, "invalid-parameter", detail, errors=errors, extra=extra)


def unauthorized(detail: str) -> ProblemError:
    """401; the same words for unknown, expired and revoked keys, so that none is told apart."""
    return ProblemError(
        401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="oversight"'}
    )


def unavailable(code: str, detail: str, *, retry_after_seconds: int) -> ProblemError:
    """503 that says when to try again."""
    return ProblemError(503, code, detail, headers={"Retry-After": str(retry_after_seconds)})


def not_found() -> ProblemError:
    """404 for an address that is not served."""
    return ProblemError(
        404,
        "not-found",
        "nothing is served at this address; GET /api/reporting/v1/marts lists what is",
    )


def register(app: Flask) -> None:
    """Answer every error of the app as a problem document."""
    app.register_error_handler(ProblemError, respond)
    app.register_error_handler(HTTPException, _from_http_exception)
    app.register_error_handler(Exception, _from_defect)


def respond(problem: ProblemError) -> Response:
    """The problem as the answer to the current request."""
    return response(problem, g.request_id)


def response(problem: ProblemError, request_id: str) -> Response:
    """The problem as an answer, also where there is no Flask yet."""
    here = trace.current.get()
    if here is not None:
        here.problem = problem.code
    answer = Response(
        json.dumps(problem.body(request_id)), status=problem.status, content_type=CONTENT_TYPE
    )
    answer.headers.update(problem.headers)
    return answer


def of_defect(error: Exception, request_id: str) -> Response:
    """500 for what nobody foresaw; the log has it, the answer has its id only."""
    log.error("defect", request_id=request_id, error=type(error).__name__, exc_info=error)
    return response(
        ProblemError(500, "internal-error", "the answer could not be made; report the request id"),
        request_id,
    )


def _from_http_exception(error: HTTPException) -> Response:
    if isinstance(error, NotFound):
        return respond(not_found())
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(set(error.valid_methods or ("GET", "HEAD")) - {"OPTIONS"}))
        detail = f"this address answers {allowed} only"
        return respond(ProblemError(405, "method-not-allowed", detail, headers={"Allow": allowed}))
    status = HTTPStatus(error.code or 500)
    code = status.phrase.lower().replace(" ", "-")
    return respond(
        ProblemError(status.value, code, "the request cannot be answered as it was sent")
    )


def _from_defect(error: Exception) -> Response:
    return of_defect(error, g.request_id)
