"""Logging in with a key: the browser keeps a cookie that stands for it, for reads alone."""

from __future__ import annotations

import re
import secrets

from flask import Blueprint, Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from api.access.sessions import COOKIE, COOKIE_SECONDS
from api.front.edge import PAGES
from api.pages.page import page, problem_page
from api.problems import ProblemError
from api.state import state

FORM_COOKIE = "oversight_form"
_MOST_BYTES = 4096
_QUERY = re.compile(r"[A-Za-z0-9=&_.-]{0,200}")
_FORM_COOKIE_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")
blueprint = Blueprint("login", __name__)
blueprint.register_error_handler(ProblemError, problem_page)


@blueprint.get("/login")
def show_form() -> Response:
    """The form, with a token for this browser."""
    return _form(next_page=own_page(request.args.get("next")))


@blueprint.post("/login")
def log_in() -> AnyResponse:
    """A cookie for a key that is in force, and back to where the browser came from."""
    request.max_content_length = _MOST_BYTES
    here = state()
    next_page = own_page(request.form.get("next"))
    if not here.forms.is_ours(request.form.get("csrf"), request.cookies.get(FORM_COOKIE)):
        return _form(
            next_page=next_page,
            code=403,
            refused="The form was too old, or your browser keeps no cookies. Try again.",
        )
    try:
        cookie = here.authenticator.log_in(
            request.form.get("key", "").strip(), address=request.remote_addr or ""
        )
    except ProblemError as problem:
        if problem.status != 401:
            raise
        return _form(
            next_page=next_page, code=401, refused="This key is unknown, expired or revoked."
        )
    answer = redirect(next_page, 303)
    _set_cookie(answer, COOKIE, cookie, path="/", seconds=COOKIE_SECONDS)
    answer.delete_cookie(FORM_COOKIE, path="/login")
    return answer


@blueprint.post("/logout")
def log_out() -> AnyResponse:
    """Forget the cookie; the key itself stays in force."""
    request.max_content_length = _MOST_BYTES
    if not state().forms.is_ours(request.form.get("csrf"), request.cookies.get(COOKIE)):
        raise ProblemError(403, "forbidden", "the form was too old; load the page again")
    answer = redirect("/login", 303)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
    answer.headers["Clear-Site-Data"] = '"cache"'
    return answer


def own_page(asked: str | None) -> str:
    """A page of ours to go to, whatever is asked for; the status page when it is none."""
    path, _, query = (asked or "").partition("?")
    if path not in PAGES or not _QUERY.fullmatch(query):
        return "/"
    return f"{path}?{query}" if query else path


def _form(*, next_page: str, code: int = 200, refused: str | None = None) -> Response:
    cookie = request.cookies.get(FORM_COOKIE, "")
    if not _FORM_COOKIE_VALUE.fullmatch(cookie):
        cookie = secrets.token_urlsafe(32)
    answer = page(
        "login.html",
        code=code,
        next_page=next_page,
        refused=refused,
        csrf=state().forms.issue(cookie),
    )
    _set_cookie(answer, FORM_COOKIE, cookie, path="/login")
    return answer


def _set_cookie(
    answer: AnyResponse, name: str, value: str, *, path: str, seconds: int | None = None
) -> None:
    answer.set_cookie(
        name,
        value,
        max_age=seconds,
        path=path,
        httponly=True,
        samesite="Strict",
        secure=state().is_https or request.is_secure,
    )
