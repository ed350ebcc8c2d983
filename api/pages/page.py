"""What every page has: its policy, its headers, and problems that look like pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Response, g, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from api.access.sessions import COOKIE
from api.problems import ProblemError
from api.state import state

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)


def page(template: str, *, code: int = 200, policy: str = POLICY, **content: Any) -> Response:
    """A page that, unless its policy says more, runs no script and takes nothing from elsewhere."""
    answer = make_response(
        render_template(
            template, principal=g.get("principal"), logout_token=_logout_token(), **content
        ),
        code,
    )
    answer.headers.update(headers(policy))
    return answer


def headers(policy: str) -> dict[str, str]:
    """What a browser is told of a page: what it may do, and to keep nothing of it."""
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "private, no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
    }


def problem_page(problem: ProblemError) -> AnyResponse:
    """A problem as a page, with its status and headers; who is not logged in is sent there."""
    if problem.status == 401:
        asked = request.full_path.rstrip("?")
        answer = redirect(f"/login?next={quote(asked, safe='/')}", 303)
        answer.headers["Cache-Control"] = "private, no-store"
        return answer
    made = page("problem.html", code=problem.status, problem=problem.body(g.request_id))
    made.headers.update(problem.headers)
    return made


def _logout_token() -> str | None:
    """The token of the form that logs out; None for a caller who sent a key."""
    cookie = request.cookies.get(COOKIE)
    if not cookie or "Authorization" in request.headers or g.get("principal") is None:
        return None
    return state().forms.issue(cookie)
