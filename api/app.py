"""The Flask app, with its edge before it and one shape of errors behind it."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, g, request
from werkzeug.middleware.proxy_fix import ProxyFix

from api import problems
from api.access.auth import Authenticator
from api.access.rates import Failures, Rates
from api.access.sessions import LoginCookies, Sessions
from api.administration import admin
from api.database.heavy import HeavyReads
from api.database.pool import Pool
from api.description import openapi
from api.front.answers import Answers
from api.front.edge import Edge
from api.front.exchange import EXCHANGE, Exchange
from api.front.listen import Listener
from api.pages import docs, login
from api.pages import status_page as pages
from api.pages.forms import FormTokens
from api.reporting import listing, marts, metadata
from api.reporting.deployed import DeployedCatalogue
from api.reporting.paging import PageTokens, signing_key
from api.state import EXTENSION, Limits, State
from api.watching import health, scrape
from api.watching.metrics import Metrics
from api.watching.watch import Routes, Watch
from warehouse.database import api_dsn, api_listen_dsn
from warehouse.settings import Settings


def create_app(
    settings: Settings, *, limits: Limits | None = None, metrics: Metrics | None = None
) -> Flask:
    """The app of one process; the database need not be there yet. ApiError when no key can sign.

    `metrics` is shared with other processes; without it the app counts for itself.
    """
    limits = limits or Limits()
    metrics = metrics or Metrics()
    app = Flask("oversight", root_path=str(Path(__file__).parent / "pages"))
    app.url_map.merge_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    pool = Pool(
        api_dsn(settings),
        metrics,
        size=limits.pool_size,
        wait_seconds=limits.pool_wait_seconds,
        read_seconds=limits.statement_timeout_ms / 1000 + 1,
    )
    catalogue = DeployedCatalogue(pool, remember_seconds=limits.remember_catalogue_seconds)
    key = signing_key(settings)
    authenticator = Authenticator(
        pool,
        roles=lambda: catalogue.current().roles,
        cookies=LoginCookies(key),
        sessions=sessions_of(settings, key),
        failures=Failures(limits.refusals_per_minute),
        remember_seconds=limits.remember_keys_seconds,
        away_seconds=settings.api_stale_seconds,
        hears=lambda: answers.is_current,
    )
    answers = Answers(
        catalogue,
        circuit=pool.circuit,
        most_bytes=settings.api_cache_mb * 1024 * 1024,
        stale_seconds=settings.api_stale_seconds,
    )
    app.extensions[EXTENSION] = State(
        pool=pool,
        metrics=metrics,
        catalogue=catalogue,
        authenticator=authenticator,
        tokens=PageTokens(key),
        forms=FormTokens(key),
        warehouse_docs=settings.warehouse_docs_path,
        is_https=settings.reached_api_url.startswith("https:"),
        limits=limits,
        heavy_reads=HeavyReads(at_once=limits.pool_size // 2),
        listener=Listener(
            api_listen_dsn(settings),
            answers=answers,
            catalogue=catalogue,
            authenticator=authenticator,
            circuit=pool.circuit,
        ),
    )
    app.before_request(_adopt)
    app.after_request(answers.take)
    problems.register(app)
    for part in (docs, health, listing, login, metadata, marts, openapi, pages, scrape):
        app.register_blueprint(part.blueprint)
    admin.register(app)
    app.wsgi_app = Edge(  # type: ignore[method-assign]
        app.wsgi_app,
        authenticator=authenticator,
        rates=rates_of(settings),
        answers=answers,
        watch=Watch(metrics, Routes(app, catalogue), answers),
        log_share=settings.log_share,
    )
    if settings.trusted_proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=settings.trusted_proxies, x_proto=0, x_host=0
        )
    return app


def rates_of(settings: Settings) -> Rates:
    """The limits of callers; ApiError when nothing can count."""
    return Rates(
        settings.rate_limits, file=settings.home / "rates.counters", url=settings.rate_limit_url
    )


def sessions_of(settings: Settings, signing_key: str) -> Sessions | None:
    """What verifies sessions, None when keys alone are taken; ApiError when its keys are none."""
    if settings.sessions is None:
        return None
    return Sessions(settings.sessions, pseudonyms_key=signing_key)


def _adopt() -> None:
    """What the edge knows of the request, and the problem that it leaves to a page or the trail."""
    exchange: Exchange = request.environ[EXCHANGE]
    exchange.rule = request.url_rule.rule if request.url_rule else None
    g.exchange = exchange
    g.request_id = exchange.request_id
    g.principal = exchange.principal
    if exchange.problem is not None:
        raise exchange.problem
