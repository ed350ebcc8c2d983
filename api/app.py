"""The Flask app: who may ask, what is logged, and which errors leave it."""

from __future__ import annotations

import os
import re
import time
import uuid

import structlog
from flask import Flask, Response, g, request

from api import health, marts, metadata, openapi, problems
from api.auth import Authenticator
from api.deployed import DeployedCatalogue
from api.paging import PageTokens, signing_key
from api.pool import Pool
from api.state import EXTENSION, Limits, State, state
from warehouse.database import api_dsn
from warehouse.settings import Settings

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

log = structlog.get_logger()


def create_app(settings: Settings, *, limits: Limits | None = None) -> Flask:
    """The app of one process; the database need not be there yet. ApiError when no key can sign."""
    limits = limits or Limits()
    app = Flask("oversight", static_folder=None)
    app.url_map.merge_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    pool = Pool(api_dsn(settings), size=limits.pool_size, wait_seconds=limits.pool_wait_seconds)
    app.extensions[EXTENSION] = State(
        pool=pool,
        authenticator=Authenticator(pool, remember_seconds=limits.remember_keys_seconds),
        catalogue=DeployedCatalogue(pool, remember_seconds=limits.remember_catalogue_seconds),
        tokens=PageTokens(signing_key(settings)),
        limits=limits,
    )
    app.before_request(_begin)
    app.before_request(_authenticate)
    app.after_request(_finish)
    problems.register(app)
    for blueprint in (health.blueprint, metadata.blueprint, marts.blueprint, openapi.blueprint):
        app.register_blueprint(blueprint)
    return app


def _begin() -> None:
    g.started = time.perf_counter()
    sent = request.headers.get("X-Request-Id", "")
    g.request_id = sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex


def _authenticate() -> None:
    """Everything but health demands a key, addresses that do not exist included."""
    if not request.path.startswith(f"{health.blueprint.url_prefix}/"):
        g.principal = state().authenticator.principal(request.headers.get("Authorization"))


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.request_id
    response.headers.setdefault("Cache-Control", "private, no-cache")
    response.headers["Vary"] = "Authorization"
    principal = g.get("principal")
    log.info(
        "request",
        process=os.getpid(),
        method=request.method,
        path=request.path,
        parameters=sorted(request.args),
        status=response.status_code,
        ms=round((time.perf_counter() - g.started) * 1000, 1),
        request_id=g.request_id,
        principal=principal.name if principal else None,
    )
    return response
