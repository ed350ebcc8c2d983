"""GET /api/reporting/v1/<mart>: routes that the catalogue decides, as JSON, CSV or NDJSON."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from urllib.parse import urlencode

import psycopg2.errors
from flask import Blueprint, Response, g, request

from api.access.auth import require_role
from api.database.heavy import is_heavy
from api.problems import unavailable
from api.reporting import export, formats, query
from api.reporting.deployed import ServedMart
from api.reporting.paging import Position
from api.reporting.parameters import Request
from api.state import PREFIX, State, state

blueprint = Blueprint("marts", __name__, url_prefix=PREFIX)


@blueprint.get("/<path:mart_path>")
def read_mart(mart_path: str) -> Response:
    """One page of one mart."""
    here = state()
    served = here.catalogue.current().mart(mart_path)
    require_role(g.principal, served.mart.readers)
    media_type = formats.chosen(request.headers.get("Accept"))
    g.exchange.keep(shows=served.fresh_as, zone=served.reporting_timezone)
    asked = served.parameters.request(request.args)
    position = here.tokens.read(served.mart, asked, g.principal)
    answer = _page if media_type == formats.JSON else _export
    try:
        response = answer(here, served, asked, position, media_type)
    except (psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedColumn) as error:
        raise unavailable(
            "not-built", "this mart is declared but not built yet", retry_after_seconds=60
        ) from error
    response.headers["Vary"] = "Accept"
    return response


def _page(
    here: State, served: ServedMart, asked: Request, position: Position | None, media_type: str
) -> Response:
    message = query.message(
        served, asked, g.principal, position, timeout_ms=here.limits.statement_timeout_ms
    )
    with here.heavy_reads.place(g.principal.id, is_heavy=is_heavy(served.mart, asked)):
        row = here.pool.read(message)
    assert row is not None
    page = query.page_of(row, served)
    window = None if page.window is None else {"from": page.window[0], "to": page.window[1]}
    token = _token(here, served, asked, page.next_position)
    body = (
        f'{{"data":[{page.rows}],"next_page":{json.dumps(token)}'
        f',"window":{json.dumps(window)},"freshness":{page.freshness}}}'
    )
    answer = Response(body, content_type=media_type)
    if token is not None:
        answer.headers["Link"] = next_link(asked, token)
    return answer


def _export(
    here: State, served: ServedMart, asked: Request, position: Position | None, media_type: str
) -> Response:
    """Rows alone; what JSON says beside them goes into headers."""
    with ExitStack() as stack:
        stack.enter_context(here.exports.place(g.principal.id, is_heavy=True))
        with here.heavy_reads.place(g.principal.id, is_heavy=True):
            made = export.read(
                here.pool,
                served,
                asked,
                g.principal,
                position,
                media_type=media_type,
                timeout_ms=here.limits.statement_timeout_ms,
            )
        stack.callback(made.content.close)
        at_end = stack.pop_all()
    answer = Response(made.blocks(), content_type=formats.CONTENT_TYPES[media_type])
    answer.call_on_close(at_end.close)
    answer.content_length = made.size
    token = _token(here, served, asked, made.next_position)
    told = formats.headers(json.loads(made.freshness), made.window, made.rows, token)
    answer.headers.update(told)
    if token is not None:
        answer.headers["Link"] = next_link(asked, token)
    answer.set_etag(hashlib.blake2b(f"{made.digest} {told}".encode(), digest_size=16).hexdigest())
    answer.make_conditional(request)
    return answer


def _token(
    here: State, served: ServedMart, asked: Request, position: Position | None
) -> str | None:
    if position is None:
        return None
    return here.tokens.issue(served.mart, asked, g.principal, position)


def next_link(asked: Request, token: str) -> str:
    """The Link header that leads to the next page, by its path on this server."""
    size = [] if asked.page_size is None else [("page_size", str(asked.page_size))]
    query = urlencode([*asked.query, *size, ("page", token)])
    return f'<{request.path}?{query}>; rel="next"'
