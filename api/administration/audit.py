"""The audit trail: every call of the administration is one row, written with what it tells of.

The row and what was done are one message to the database: both stand, or neither.
"""

from __future__ import annotations

import ipaddress
import json
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg2
import psycopg2.errors
import structlog
from flask import Flask, Response, g, request
from psycopg2.sql import SQL, Composable, Identifier, Literal

from api.access.auth import Principal
from api.problems import TYPE_PREFIX, ProblemError, respond, unavailable
from api.state import state

ADMIN_PREFIX = "/api/admin"
ADMIN_ROLE = "oversight_admin"
# So long a call waits for another one with its key, or for a row that the runner writes just now.
LOCK_TIMEOUT_MS = 2_000
_LONGEST_TEXT = 1_000
_QUIET_SECONDS = 60.0
_MOST_THROTTLED = 10_000
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

_BEGIN = SQL("""
set local role {role};
set local statement_timeout = {statement_ms};
set local lock_timeout = {lock_ms};
""")
_ACT = SQL("""
with done as materialized (select a.outcome, a.job_request_id, a.subject_id from {action} as a),
noted as (
    insert into metadata.audit_log ({columns}, status, outcome, job_request_id)
    select
        {values},
        ({answers}::jsonb -> d.outcome ->> 0)::smallint,
        {answers}::jsonb -> d.outcome ->> 1,
        d.job_request_id
    from done as d
)
select set_config('oversight.done', json_build_array(d.outcome, d.subject_id)::text, true)
from done as d;
select current_setting('oversight.done'), {document}
""")
_NOTE = SQL("""
insert into metadata.audit_log ({columns}, status, outcome)
values ({values}, {status}, {outcome});
select 1
""")
# What the first statement of the message was about; it is set before the second one begins.
SUBJECT = SQL("(current_setting('oversight.done')::json ->> 1)::bigint")

log = structlog.get_logger("oversight.audit")


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of a call; `document` is JSON as PostgreSQL built it."""

    outcome: str
    document: str | None


@dataclass(kw_only=True)
class Call:
    """One call as the trail keeps it; `body` is replaced by what was understood of it."""

    principal: Principal
    method: str
    path: str
    action: str | None
    client_address: str | None
    request_id: str
    body: Any = None
    idempotency_key: str | None = None
    call_id: uuid.UUID = field(default_factory=uuid.uuid4)
    is_noted: bool = False

    def perform(
        self, action: Composable, answers: Mapping[str, tuple[int, str]], document: Composable
    ) -> Done:
        """Do something and note it.

        `action` is what stands in a `from`: one row of outcome, job_request_id and subject_id.
        `answers` has the status and the word of the trail for every outcome.
        """
        columns, values = self._columns()
        message = _ACT.format(
            action=action,
            columns=columns,
            values=values,
            answers=Literal(json.dumps(answers)),
            document=document,
        )
        row = self._send(message)
        outcome, _ = json.loads(row[0])
        return Done(outcome=outcome, document=row[1])

    def note(self, status: int, outcome: str) -> None:
        """Note a call that did nothing."""
        columns, values = self._columns()
        self._send(
            _NOTE.format(
                columns=columns, values=values, status=Literal(status), outcome=Literal(outcome)
            )
        )

    def _send(self, message: Composable) -> tuple[Any, ...]:
        begin = _BEGIN.format(
            role=Identifier(ADMIN_ROLE),
            statement_ms=Literal(state().limits.statement_timeout_ms),
            lock_ms=Literal(LOCK_TIMEOUT_MS),
        )
        try:
            row = state().pool.read(SQL("").join([begin, message]))
        except psycopg2.errors.UniqueViolation as error:
            # The pool repeats what a lost connection had not answered; it had been done.
            self.is_noted = True
            raise unavailable(
                "answer-lost",
                "the call was carried out and its answer was lost; send it again, with the same"
                " Idempotency-Key if it had one",
                retry_after_seconds=1,
            ) from error
        except psycopg2.Error as error:
            log.error("call not carried out", request_id=self.request_id, exc_info=error)
            raise unavailable(
                "not-noted",
                "the call could not be kept on record, so nothing was done; try again",
                retry_after_seconds=5,
            ) from error
        assert row is not None
        self.is_noted = True
        return row

    def _columns(self) -> tuple[Composable, Composable]:
        values = {
            "call_id": str(self.call_id),
            "principal_id": self.principal.id,
            "principal_name": storable(self.principal.subject or self.principal.name),
            "role": self.principal.role,
            "method": self.method,
            "path": self.path,
            "action": self.action,
            "body": None if self.body is None else json.dumps(self.body),
            "idempotency_key": self.idempotency_key,
            "client_address": self.client_address,
            "request_id": self.request_id,
        }
        casts = {"call_id": SQL("::uuid"), "body": SQL("::jsonb"), "client_address": SQL("::inet")}
        return (
            SQL(", ").join(map(Identifier, values)),
            SQL(", ").join(
                SQL("{}{}").format(Literal(value), casts.get(name, SQL("")))
                for name, value in values.items()
            ),
        )


def register(app: Flask) -> None:
    """Note every call of the administration, also of addresses that are not served."""
    throttled = _Throttled()
    app.after_request(lambda response: _end(response, throttled))


def call() -> Call:
    """The call that is being answered; its caller is known."""
    if "call" not in g:
        principal: Principal = g.principal
        rule = request.url_rule
        g.call = Call(
            principal=principal,
            method=storable(request.method),
            path=storable(request.path),
            action=rule.endpoint.rpartition(".")[2] if rule else None,
            client_address=_address(request.remote_addr),
            request_id=g.request_id,
        )
    found: Call = g.call
    return found


def storable(text: str) -> str:
    """A text as the trail can hold it."""
    return _UNFIT.sub("\ufffd", text[:_LONGEST_TEXT])


class _Throttled:
    """Of calls over the quota each caller leaves one row a minute: they would cost more than 429s.

    Forgets all when there are too many callers.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def is_quiet(self, principal: Principal) -> bool:
        """Whether the caller's last row of this kind is less than a minute old."""
        now = time.monotonic()
        if now < self._until.get(principal.id, 0.0):
            return True
        if len(self._until) >= _MOST_THROTTLED:
            self._until.clear()
        self._until[principal.id] = now + _QUIET_SECONDS
        return False


def _end(response: Response, throttled: _Throttled) -> Response:
    """A call that was refused, or failed, has its row, too; without one it has no answer either."""
    is_administration = (request.path + "/").startswith(ADMIN_PREFIX + "/")
    if not is_administration or g.principal is None:
        return response
    noted = call()
    if noted.is_noted or (response.status_code == 429 and throttled.is_quiet(g.principal)):
        return response
    outcome = "ok"
    if response.status_code >= 400:
        outcome = str(response.get_json()["type"]).removeprefix(TYPE_PREFIX)
    try:
        noted.note(response.status_code, outcome)
    except ProblemError as problem:
        log.error("call not noted", status=response.status_code, outcome=outcome)
        return response if response.status_code in (429, 503) else respond(problem)
    return response


def _address(text: str | None) -> str | None:
    try:
        return str(ipaddress.ip_address((text or "").partition("%")[0]))
    except ValueError:
        return None
