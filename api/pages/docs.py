"""/docs: the API's description to read and try, and the warehouse's own docs; no other host."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import as_file, files

from flask import Blueprint, Response, g, send_file
from werkzeug.wrappers import Response as AnyResponse

from api.access.auth import Principal
from api.pages.page import headers, page, problem_page
from api.problems import ProblemError, not_found
from api.state import state

_SWAGGER_UI = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_KEPT_SECONDS = 3600
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_WAREHOUSE_POLICY = (
    "default-src 'none'; script-src 'sha256-{}'; style-src 'unsafe-inline';"
    " img-src 'self' data:; font-src data:; form-action 'none'; base-uri 'none';"
    " frame-ancestors 'none'"
)
_SCRIPT = re.compile(rb"<script[^>]*>(.*?)</script", re.DOTALL)
blueprint = Blueprint("docs", __name__)
blueprint.register_error_handler(ProblemError, problem_page)


@blueprint.get("/docs")
def show_api() -> Response:
    """/openapi.json as pages, by Swagger UI; what it asks the API goes out with the login."""
    return page("docs.html", policy=_POLICY)


@blueprint.get("/docs/swagger-ui/<name>")
def swagger_ui(name: str) -> Response:
    """The files of Swagger UI that the page needs, as the package brings them."""
    if name not in _SWAGGER_UI:
        raise not_found()
    with as_file(files("flask_swagger_ui") / "dist" / name) as path:
        answer = send_file(path, mimetype=_SWAGGER_UI[name])
    answer.headers["Cache-Control"] = f"private, max-age={_KEPT_SECONDS}"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


@blueprint.get("/docs/warehouse")
def show_warehouse() -> AnyResponse:
    """The site of dbt docs, one file that `oversight docs` makes.

    Its one script is allowed by its hash, so that no description can bring another.
    """
    here = state()
    _require_all_declared(g.principal)
    try:
        content = here.warehouse_docs.read_bytes()
    except FileNotFoundError:
        return page("no_docs.html", code=404)
    scripts = _SCRIPT.findall(content)
    allowed = base64.b64encode(hashlib.sha256(scripts[0] if scripts else b"").digest()).decode()
    answer = Response(content, content_type="text/html; charset=utf-8")
    answer.headers.update(headers(_WAREHOUSE_POLICY.format(allowed)))
    return answer


def _require_all_declared(principal: Principal) -> None:
    """A problem (403) for who does not see every organization that the declarations name."""
    tables = state().catalogue.current().catalogue.sources
    named = {table.organization_value for table in tables} - {None}
    if not principal.sees_all("organization") and named - set(principal.ids("organization")):
        raise ProblemError(
            403, "forbidden", "the docs name organizations that this key does not see"
        )
