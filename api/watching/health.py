"""Is the process alive, and can it answer reads; the only addresses that ask for no key."""

from __future__ import annotations

from flask import Blueprint, Response

from api.problems import ProblemError
from api.state import state

blueprint = Blueprint("health", __name__, url_prefix="/health")


@blueprint.get("/live")
def live() -> Response:
    """200 while the process answers at all."""
    return _ok("live")


@blueprint.get("/ready")
def ready() -> Response:
    """200 when the database answers and a catalogue is deployed, else a 503 problem.

    Its `missing` says what is not there. Known answers are served all the same, for a while.
    """
    here = state()
    try:
        here.pool.read("select 1")
    except ProblemError as problem:
        problem.extra = {**problem.extra, "missing": ["database"]}
        raise
    try:
        here.catalogue.current()
    except ProblemError as problem:
        problem.extra = {**problem.extra, "missing": ["catalogue"]}
        raise
    return _ok("ready")


def _ok(status: str) -> Response:
    return Response(f'{{"status":"{status}"}}', content_type="application/json")
