"""The administration's operations, described from the schemas that check what is sent to them."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema

from api.administration.admin import LIST_PARAMETERS, MAX_PAGE_SIZE
from api.administration.audit import ADMIN_PREFIX
from api.administration.bodies import BACKFILL, NOTHING, PULL, RESUME
from api.description.admin_schemas import BACKFILL_EXAMPLE, ID, LEDGER_EXAMPLE, PULL_EXAMPLE
from api.description.operations import Described, Operation, json_answer
from api.description.schemas import NULLABLE_TEXT, array, closed, reference

_TAG = "administration"
# No cookie: another site can make a browser send it.
_EXTRA: dict[str, Any] = {"security": [{"apiKey": []}, {"session": []}]}
_READ = (400, 401, 403, 404, 406, 429, 500, 503)
_ASK = (400, 401, 403, 406, 409, 413, 415, 422, 429, 500, 503)
_CHANGE = (404, *_ASK)
_KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "Names the job: the same key and body are the same job, however often they are"
    " sent. Keys are each caller's own and are remembered for good.",
    "schema": {"type": "string", "pattern": '^("[!#-\\[\\]-~]{1,200}"|[!#-\\[\\]-~]{1,200})$'},
    "example": "pull-2026-11-30T06:00Z",
}
_LOCATION = {"description": "Where to ask how far it is.", "schema": {"type": "string"}}
_REPLAYED = {
    "description": "true when the key was sent before: nothing new was asked for.",
    "schema": {"type": "string", "enum": ["true"]},
}


def _body(schema: Schema, example: Any) -> dict[str, Any]:
    required = [name for name, field in schema.fields.items() if field.required]
    members = {name: dict(field.metadata) for name, field in schema.fields.items()}
    return {
        "required": bool(required),
        "content": {
            "application/json": {
                "schema": closed(members, optional=tuple(set(members) - set(required))),
                "example": example,
            }
        },
    }


def _id(name: str) -> Described:
    return {"name": name, "in": "path", "required": True, "schema": ID}


def _accepted(name: str, example: Any) -> dict[int, Described]:
    headers = {"Location": _LOCATION, "Idempotency-Replayed": _REPLAYED}
    return {202: json_answer("Asked for.", reference(name), example, headers=headers)}


def _change(verb: str, summary: str, description: str, body: Described) -> Operation:
    return Operation(
        path=f"{ADMIN_PREFIX}/backfills/{{backfill_id}}/{verb}",
        method="post",
        operation_id=f"{verb}_backfill",
        summary=summary,
        description=description,
        tag=_TAG,
        parameters=[_id("backfill_id")],
        body=body,
        refusals=_CHANGE,
        extra=_EXTRA,
        answers={200: json_answer("As it is now.", reference("Backfill"), BACKFILL_EXAMPLE)},
    )


_PAGING = [
    {
        "name": name,
        "in": "query",
        "required": False,
        "description": LIST_PARAMETERS.fields[name].metadata["description"],
        "schema": {"type": "integer", "minimum": 1, "maximum": most},
    }
    for name, most in (("page", 10**18 - 1), ("page_size", MAX_PAGE_SIZE))
]
_NO_BODY = _body(NOTHING, {})
OPERATIONS = (
    Operation(
        path=f"{ADMIN_PREFIX}/etl/pull-reporting",
        method="post",
        operation_id="request_pull",
        summary="Ask for a pull",
        description="The runner asks one engine, or each whose address it knows, for what is new.",
        tag=_TAG,
        parameters=[_KEY],
        body=_body(PULL, {"engine": "oversight"}),
        refusals=_ASK,
        extra=_EXTRA,
        answers=_accepted("Pull", PULL_EXAMPLE),
    ),
    Operation(
        path=f"{ADMIN_PREFIX}/etl/pull-reporting/{{pull_id}}",
        operation_id="get_pull",
        summary="Read how far a pull is",
        description="Engine by engine, with the rows that landed.",
        tag=_TAG,
        parameters=[_id("pull_id")],
        refusals=_READ,
        extra=_EXTRA,
        answers={200: json_answer("The pull.", reference("Pull"), PULL_EXAMPLE)},
    ),
    Operation(
        path=f"{ADMIN_PREFIX}/backfills",
        method="post",
        operation_id="request_backfill",
        summary="Ask for old weeks again",
        description="The runner pulls and lands every ISO week that holds a day of the range, and"
        " the marts take them. The answer says which weeks those are.",
        tag=_TAG,
        parameters=[_KEY],
        body=_body(BACKFILL, {"engine": "oversight", "from": "2026-01-07", "to": "2026-W03"}),
        refusals=_ASK,
        extra=_EXTRA,
        answers=_accepted("Backfill", BACKFILL_EXAMPLE),
    ),
    Operation(
        path=f"{ADMIN_PREFIX}/backfills",
        operation_id="list_backfills",
        summary="List backfills",
        description="The newest first, a page at a time.",
        tag=_TAG,
        parameters=_PAGING,
        refusals=_READ,
        extra=_EXTRA,
        answers={
            200: json_answer(
                "Backfills.",
                closed(
                    {
                        "data": array(reference("Backfill")),
                        "next_page": {
                            **NULLABLE_TEXT,
                            "description": "The `page` of the next answer; null on the last one.",
                        },
                    }
                ),
                {"data": [BACKFILL_EXAMPLE], "next_page": None},
            )
        },
    ),
    Operation(
        path=f"{ADMIN_PREFIX}/backfills/{{backfill_id}}",
        operation_id="get_backfill",
        summary="Read how far a backfill is",
        description="In weeks and percent, with its ledger.",
        tag=_TAG,
        parameters=[_id("backfill_id")],
        refusals=_READ,
        extra=_EXTRA,
        answers={
            200: json_answer(
                "The backfill.",
                reference("BackfillLedger"),
                {**BACKFILL_EXAMPLE, "ledger": [LEDGER_EXAMPLE]},
            )
        },
    ),
    _change("pause", "Pause a backfill", "It stops after the week under way.", _NO_BODY),
    _change(
        "resume",
        "Resume a backfill",
        "It goes on with what is left and what failed; each failed week is tried anew.",
        _body(RESUME, {"only_failed": True}),
    ),
    _change(
        "cancel",
        "Cancel a backfill",
        "It ends for good; the weeks that landed stay. One that failed is closed: its alert ends.",
        _NO_BODY,
    ),
)
