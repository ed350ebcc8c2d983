"""/api/admin: asks the runner for pulls and backfills, and says how far they are.

What is asked is a row in metadata.job_requests; the runner acts. Only whoever may administer and
sees everything may ask, since what an engine sends is of all organizations and partners.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from flask import Blueprint, Flask, Response, g, json, request
from marshmallow import RAISE, Schema
from psycopg2.sql import SQL, Composable, Literal
from werkzeug.routing import BaseConverter

from api.access.auth import require_right
from api.administration import audit
from api.administration import documents as documents
from api.administration.audit import Done, call
from api.administration.bodies import (
    BACKFILL,
    NOTHING,
    PULL,
    RESUME,
    Days,
    fingerprint,
    read_body,
    read_key,
    unprocessable,
)
from api.problems import ProblemError, unauthorized
from api.reporting import formats
from api.reporting.parameter_fields import Whole
from api.reporting.parameters import NO_PARAMETERS, load
from api.state import state
from warehouse.backfills import MAX_ATTEMPTS, BackfillError, check_engine, weeks_to_ask
from warehouse.catalogue import Catalogue
from warehouse.weeks import WeekError, monday_of

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 500
_PULLS = "/etl/pull-reporting"
_BACKFILLS = "/backfills"
_ONE_BACKFILL = f"{_BACKFILLS}/<id:backfill_id>"
blueprint = Blueprint("admin", __name__, url_prefix=audit.ADMIN_PREFIX)

LIST_PARAMETERS: Schema = Schema.from_dict(
    {
        "page": Whole(least=1, description="The next_page of the answer before."),
        "page_size": Whole(
            least=1,
            most=MAX_PAGE_SIZE,
            description=f"Backfills per page, at most {MAX_PAGE_SIZE}; without it,"
            f" {DEFAULT_PAGE_SIZE}.",
        ),
    },
    name="list_backfills_parameters",
)(unknown=RAISE)

_NOT_FOUND = (404, "not-found")
_CONFLICT = (409, "conflict")
_ASKED = {
    "accepted": (202, "accepted"),
    "replayed": (202, "replayed"),
    "key_reused": (422, "idempotency-key-reused"),
    "in_progress": (409, "request-in-progress"),
    "nothing_to_pull": (409, "nothing-to-pull"),
}
_CHANGED = {
    "ok": (200, "ok"),
    "unknown": _NOT_FOUND,
    **dict.fromkeys(("done", "failed", "cancelled", "running", "no_failed_week"), _CONFLICT),
}
_READ = {"ok": (200, "ok"), "unknown": _NOT_FOUND}


class _Id(BaseConverter):
    """A number that the database can hold."""

    regex = r"[1-9][0-9]{0,17}"

    def to_python(self, value: str) -> int:
        return int(value)


def register(app: Flask) -> None:
    """Serve the administration, every call of which is noted."""
    app.url_map.converters["id"] = _Id
    audit.register(app)
    app.register_blueprint(blueprint)


@blueprint.before_request
def _admit() -> None:
    """A key or token, sent on purpose: a cookie comes along whoever made the browser ask."""
    if not request.headers.get("Authorization"):
        raise unauthorized("the administration takes no cookie: send `Authorization: Bearer ...`")
    require_right(g.principal, "administer")
    if not all(g.principal.sees_all(name) for name in ("organization", "partner")):
        raise ProblemError(
            403,
            "forbidden",
            "pulls and backfills are of all organizations and partners, and this caller sees some;"
            " use a key made with --organization '*'",
        )
    formats.chosen(request.headers.get("Accept"), (formats.JSON,))


@blueprint.post(_PULLS)
def request_pull() -> Response:
    """Ask for a pull of one engine, or of each whose address the runner knows."""
    load(NO_PARAMETERS, request.args)
    body, key = read_body(PULL), read_key()
    catalogue = state().catalogue.current().catalogue
    named = body.get("engine")
    pullable = sorted(catalogue.pulls())
    if named is not None and named not in pullable:
        raise unprocessable(
            "engine",
            f"{named} can't be pulled; engines with an endpoint: {', '.join(pullable) or 'none'}",
        )
    action = SQL(
        "(select outcome, job_request_id, job_request_id as subject_id"
        " from metadata.request_pulls({engines}::text[], {key}))"
    ).format(
        engines=Literal([named] if named else pullable),
        key=_key(key, body),
    )
    return _asked(call().perform(action, _ASKED, documents.pull(audit.SUBJECT)), _PULLS)


@blueprint.get(f"{_PULLS}/<id:pull_id>")
def get_pull(pull_id: int) -> Response:
    """How far a pull is, engine by engine."""
    load(NO_PARAMETERS, request.args)
    action = SQL(
        "(select coalesce(max('ok'), 'unknown') as outcome, max(request_id) as job_request_id,"
        " {id}::bigint as subject_id from metadata.job_requests"
        " where request_id = {id} and kind = 'pull')"
    ).format(id=Literal(pull_id))
    return _answered(call().perform(action, _READ, documents.pull(audit.SUBJECT)), "pull", pull_id)


@blueprint.post(_BACKFILLS)
def request_backfill() -> Response:
    """Ask for the weeks of a range of days."""
    load(NO_PARAMETERS, request.args)
    body, key = read_body(BACKFILL), read_key()
    catalogue = state().catalogue.current().catalogue
    weeks = _weeks(catalogue, body)
    action = SQL(
        "(select outcome, job_request_id, backfill_id as subject_id from metadata.request_backfill("
        "{engine}, {first}::date, {last}::date, {most}, {attempts}, {key}, 'pending', true))"
    ).format(
        engine=Literal(body["engine"]),
        first=Literal(weeks[0]),
        last=Literal(weeks[-1]),
        most=Literal(catalogue.backfill_max_weeks),
        attempts=Literal(MAX_ATTEMPTS),
        key=_key(key, body),
    )
    return _asked(call().perform(action, _ASKED, documents.backfill(audit.SUBJECT)), _BACKFILLS)


@blueprint.get(_BACKFILLS)
def list_backfills() -> Response:
    """Backfills, the newest first, a page at a time."""
    asked = load(LIST_PARAMETERS, request.args)
    action = SQL(
        "(select 'ok' as outcome, null::bigint as job_request_id, null::bigint as subject_id)"
    )
    document = documents.backfills(asked.get("page"), asked.get("page_size", DEFAULT_PAGE_SIZE))
    return _json(call().perform(action, _READ, document).document)


@blueprint.get(_ONE_BACKFILL)
def get_backfill(backfill_id: int) -> Response:
    """How far a backfill is, week by week."""
    load(NO_PARAMETERS, request.args)
    action = SQL(
        "(select coalesce(max('ok'), 'unknown') as outcome, max(request_id) as job_request_id,"
        " {id}::bigint as subject_id from metadata.backfills where backfill_id = {id})"
    ).format(id=Literal(backfill_id))
    document = documents.backfill(audit.SUBJECT, with_ledger=True)
    return _answered(call().perform(action, _READ, document), "backfill", backfill_id)


@blueprint.post(f"{_ONE_BACKFILL}/pause")
def pause_backfill(backfill_id: int) -> Response:
    """Stop after the week under way."""
    read_body(NOTHING)
    return _change(backfill_id, SQL("pause_backfill({id})"))


@blueprint.post(f"{_ONE_BACKFILL}/resume")
def resume_backfill(backfill_id: int) -> Response:
    """Go on with what is left, or with the weeks that failed alone."""
    only_failed = Literal(read_body(RESUME)["only_failed"])
    return _change(backfill_id, SQL("resume_backfill({id}, {f}, 'pending')"), f=only_failed)


@blueprint.post(f"{_ONE_BACKFILL}/cancel")
def cancel_backfill(backfill_id: int) -> Response:
    """End it for good; one that failed is closed so."""
    read_body(NOTHING)
    return _change(backfill_id, SQL("cancel_backfill({id})"))


def _change(backfill_id: int, function: SQL, **arguments: Composable) -> Response:
    load(NO_PARAMETERS, request.args)
    action = SQL(
        "(select outcome, job_request_id, {id}::bigint as subject_id from metadata.{function})"
    ).format(
        id=Literal(backfill_id), function=function.format(id=Literal(backfill_id), **arguments)
    )
    done = call().perform(action, _CHANGED, documents.backfill(audit.SUBJECT))
    return _answered(done, "backfill", backfill_id)


def _weeks(catalogue: Catalogue, body: Mapping[str, Any]) -> list[Any]:
    """The Mondays of the weeks that hold a day of the range; a problem names the wrong member."""
    first: Days = body["from"]
    last: Days = body["to"]
    today = datetime.now(timezone.utc).date()
    try:
        check_engine(catalogue, body["engine"])
    except BackfillError as error:
        raise unprocessable("engine", str(error)) from error
    if first.first > last.last:
        raise unprocessable("from", f"{first.text} is after to, {last.text}; swap them")
    for member, days in (("from", first), ("to", last)):
        if days.first > today:
            raise unprocessable(member, f"{days.text} is in the future; today is {today} in UTC")
    try:
        return weeks_to_ask(
            catalogue,
            body["engine"],
            monday_of(first.first),
            monday_of(last.first),
            today=today,
        )
    except (BackfillError, WeekError) as error:
        raise unprocessable("from", str(error)) from error


def _key(key: str, body: Mapping[str, Any]) -> Composable:
    """Key, fingerprint and name of who asks; a key is a caller's own."""
    return SQL("{}, {}, {}").format(
        Literal(f"api {g.principal.id} {key}"),
        Literal(fingerprint(body)),
        Literal(g.principal.name),
    )


def _asked(done: Done, place: str) -> Response:
    status, code = _ASKED[done.outcome]
    if status == 202:
        response = _json(done.document, status=202)
        job = json.loads(done.document or "")
        response.headers["Location"] = f"{audit.ADMIN_PREFIX}{place}/{job['id']}"
        if done.outcome == "replayed":
            response.headers["Idempotency-Replayed"] = "true"
        return response
    detail = {
        "key_reused": "this Idempotency-Key was used for something else; take a new one",
        "in_progress": "a call with this Idempotency-Key is under way; send it again in a second",
        "nothing_to_pull": "no runner knows the address of an engine that is asked for: set its"
        " variable where `oversight schedule` runs",
    }[done.outcome]
    headers = {"Retry-After": "1"} if done.outcome == "in_progress" else {}
    raise ProblemError(status, code, detail, headers=headers)


def _answered(done: Done, what: str, number: int) -> Response:
    if done.outcome == "ok":
        return _json(done.document)
    if done.outcome == "unknown":
        raise ProblemError(404, "not-found", f"there is no {what} {number}")
    detail = {
        "running": f"{what} {number} is running already",
        "no_failed_week": f"{what} {number} has no week that failed",
    }.get(done.outcome, f"{what} {number} is {done.outcome}; ask for its weeks anew")
    raise ProblemError(409, "conflict", detail)


def _json(document: str | None, *, status: int = 200) -> Response:
    return Response(document, status=status, content_type="application/json")
