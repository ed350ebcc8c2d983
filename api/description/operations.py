"""How an operation of the API is described, with every answer that it can give.

Whoever serves further addresses makes an `Operation` of each and lists it in
api/description/openapi.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apispec import APISpec

from api.problems import CONTENT_TYPE, TYPE_PREFIX
from api.reporting.formats import JSON

Described = Mapping[str, Any]

READ_REFUSALS = (400, 401, 403, 406, 429, 500, 503)
_REQUEST_ID = "3f0c5f1d6a4e4b0b9d0d2f6d1f5c7a10"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One status that is answered with a problem document."""

    name: str
    title: str
    code: str
    description: str
    example: str
    headers: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation; `answers` are OpenAPI responses, `refusals` statuses with a problem."""

    path: str
    operation_id: str
    summary: str
    description: str
    tag: str
    answers: Mapping[int, Described]
    refusals: Sequence[int] = READ_REFUSALS
    method: str = "get"
    parameters: Sequence[Described] = ()
    body: Described | None = None
    is_open: bool = False
    extra: Described = field(default_factory=dict)
    """Further members of the operation."""


_RATE_LIMITS = (
    "RateLimit",
    "RateLimit-Policy",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
)
_COUNT = {"type": "integer", "minimum": 0}
HEADERS: dict[str, Described] = {
    "X-Request-Id": {
        "description": "Names the request in our logs; one that was sent comes back.",
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "A strong validator: send it as `If-None-Match` to be told of changes only.",
        "schema": {"type": "string", "pattern": '^"[!#-~]+"$'},
    },
    "Age": {
        "description": "Seconds since a stale answer was made, while the database is away.",
        "schema": _COUNT,
    },
    "Cache-Status": {
        "description": "That the answer was known already: nothing that it shows has changed.",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "Seconds to wait before trying again.", "schema": _COUNT},
    "RateLimit": {
        "description": "What is left of the caller's quota, and seconds until it is whole again.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "The caller's quota and the seconds that it is for.",
        "schema": {"type": "string"},
    },
    "RateLimit-Limit": {"description": "Requests in a window of the quota.", "schema": _COUNT},
    "RateLimit-Remaining": {"description": "Requests left in this window.", "schema": _COUNT},
    "RateLimit-Reset": {"description": "Seconds until the window ends.", "schema": _COUNT},
    "WWW-Authenticate": {
        "description": "How to say who you are.",
        "schema": {"type": "string"},
    },
}
_ON_SUCCESS = ("X-Request-Id", "ETag", "Age", "Cache-Status", *_RATE_LIMITS)

REFUSALS: dict[int, Refusal] = {
    400: Refusal(
        name="BadRequest",
        title="Bad Request",
        code="invalid-parameter",
        description="A parameter is wrong; `errors` names each that is.",
        example="from: 'yesterday' is not a day; write YYYY-MM-DD",
    ),
    401: Refusal(
        name="Unauthorized",
        title="Unauthorized",
        code="unauthorized",
        description="No key or session, or one that is unknown, expired or revoked.",
        example="the API key is unknown, expired or revoked",
        headers=("WWW-Authenticate",),
    ),
    403: Refusal(
        name="Forbidden",
        title="Forbidden",
        code="forbidden",
        description="The caller's role may not do this.",
        example="the role 'reader' may not read this",
    ),
    404: Refusal(
        name="NotFound",
        title="Not Found",
        code="not-found",
        description="Nothing is served at this address (any more).",
        example="nothing is served at this address",
    ),
    406: Refusal(
        name="NotAcceptable",
        title="Not Acceptable",
        code="not-acceptable",
        description="The Accept header asks for none of the media types of this address.",
        example="this address answers application/json; the Accept header asks for none of them",
    ),
    409: Refusal(
        name="Conflict",
        title="Conflict",
        code="conflict",
        description="Not in the state that it is in, or a call with the same key is under way.",
        example="backfill 3 is cancelled; ask for its weeks anew",
    ),
    413: Refusal(
        name="TooLarge",
        title="Request Entity Too Large",
        code="body-too-large",
        description="The body is longer than this address takes.",
        example="the body may have at most 4096 bytes",
    ),
    415: Refusal(
        name="UnsupportedMediaType",
        title="Unsupported Media Type",
        code="unsupported-media-type",
        description="The body is not JSON, or does not say so.",
        example="send the body as Content-Type: application/json",
    ),
    422: Refusal(
        name="Unprocessable",
        title="Unprocessable Entity",
        code="invalid-body",
        description="A member of the body is wrong, and `errors` names it; or the Idempotency-Key"
        " was used for something else.",
        example="from: 2026-02-01 is after to, 2026-W03; swap them",
    ),
    429: Refusal(
        name="TooManyRequests",
        title="Too Many Requests",
        code="rate-limited",
        description="The caller's quota is used up, or too many of its heavy reads are under way.",
        example="the quota is used up; try again later",
        headers=("Retry-After", *_RATE_LIMITS),
    ),
    500: Refusal(
        name="InternalError",
        title="Internal Server Error",
        code="internal-error",
        description="A defect of ours; the request id finds it in our log.",
        example="the answer could not be made; report the request id",
    ),
    503: Refusal(
        name="Unavailable",
        title="Service Unavailable",
        code="database-unavailable",
        description="Not now: the database is away, busy or too slow. A read can be repeated.",
        example="the database cannot be reached; try again",
        headers=("Retry-After",),
    ),
}


def add(spec: APISpec, operation: Operation) -> None:
    """Describe one operation in the document."""
    responses: dict[str, Any] = {
        str(status): {**answer, "headers": {**_headers(_ON_SUCCESS), **answer.get("headers", {})}}
        for status, answer in operation.answers.items()
    }
    if operation.method == "get" and not operation.is_open:
        responses["304"] = {
            "description": "Unchanged since the answer whose ETag was sent in `If-None-Match`.",
            "headers": _headers(_ON_SUCCESS),
        }
    for status in operation.refusals:
        responses[str(status)] = {"$ref": f"#/components/responses/{REFUSALS[status].name}"}
    described: dict[str, Any] = {
        "operationId": operation.operation_id,
        "summary": operation.summary,
        "description": operation.description,
        "tags": [operation.tag],
        "responses": responses,
        **operation.extra,
    }
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.body is not None:
        described["requestBody"] = operation.body
    if operation.is_open:
        described["security"] = []
    spec.path(path=operation.path, operations={operation.method: described})


def add_shared(spec: APISpec, operations: Sequence[Operation]) -> None:
    """Describe the headers, and the refusals that the operations name."""
    for name, header in HEADERS.items():
        spec.components.header(name, dict(header))
    for status in sorted({status for item in operations for status in item.refusals}):
        spec.components.response(REFUSALS[status].name, _refused(status, REFUSALS[status]))


def json_answer(
    description: str, schema: Described, example: Any, **members: Any
) -> dict[str, Any]:
    """An answer in JSON; `members` are further ones of the OpenAPI response, such as links."""
    return {
        "description": description,
        "content": {JSON: {"schema": schema, "example": example}},
        **members,
    }


def _refused(status: int, refusal: Refusal) -> dict[str, Any]:
    example: dict[str, Any] = {
        "type": TYPE_PREFIX + refusal.code,
        "title": refusal.title,
        "status": status,
        "detail": refusal.example,
        "request_id": _REQUEST_ID,
    }
    if status in (400, 422):
        parameter, _, message = refusal.example.partition(": ")
        example["errors"] = [{"parameter": parameter, "message": message}]
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": refusal.description,
        "headers": _headers(("X-Request-Id", *refusal.headers)),
        "content": {CONTENT_TYPE: {"schema": schema, "example": example}},
    }


def _headers(names: Sequence[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
