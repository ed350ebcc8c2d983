"""What callers of the administration send: its members, checked, and the key that names a job."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, ClassVar

from flask import request
from marshmallow import RAISE, Schema, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from api.administration.audit import call, storable
from api.problems import ParameterError, ProblemError
from api.reporting.parameter_fields import Parameter
from warehouse.weeks import WeekError, parse_week

MOST_BYTES = 4096
MEMBER_DAY_OR_WEEK = r"^[0-9]{4}-([0-9]{2}-[0-9]{2}|W[0-9]{2})$"
_ENGINE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DAY_OR_WEEK = re.compile(MEMBER_DAY_OR_WEEK[1:-1])
# The draft's header is a quoted string; most clients send the bare text.
_KEY = re.compile(r'("?)([!#-\[\]-~]{1,200})\1')


class Engine(Parameter):
    """The name of an engine."""

    described: ClassVar = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,62}$"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or not _ENGINE.fullmatch(value):
            raise ValidationError("is no name of an engine, such as reddit_ads")
        return value


@dataclass(frozen=True)
class Days:
    """The day, or the days of the week, that were named."""

    first: date
    last: date
    text: str


class DayOrWeek(Parameter):
    """A day or an ISO week, as the days that it has."""

    described: ClassVar = {"type": "string", "pattern": MEMBER_DAY_OR_WEEK}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Days:
        if not isinstance(value, str) or not _DAY_OR_WEEK.fullmatch(value):
            raise ValidationError("is neither a day such as 2026-01-31 nor a week such as 2026-W05")
        try:
            monday = parse_week(value)
            if "W" in value:
                return Days(monday, monday + timedelta(days=6), value)
            day = date.fromisoformat(value)
            return Days(day, day, value)
        except (WeekError, OverflowError) as error:
            raise ValidationError(f"{value} does not exist") from error


class TrueOrFalse(Parameter):
    """A JSON boolean, and nothing that could be taken for one."""

    described: ClassVar = {"type": "boolean"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("is neither true nor false")
        return value


def _schema(name: str, **members: Parameter) -> Schema:
    schema: Schema = Schema.from_dict(
        {member.rstrip("_"): kind for member, kind in members.items()}, name=name
    )(unknown=RAISE)
    return schema


PULL = _schema(
    "PullRequest",
    engine=Engine(
        description="The engine to ask; without it, every engine whose address the runner knows."
    ),
)
BACKFILL = _schema(
    "BackfillRequest",
    engine=Engine(required=True, description="The engine to ask again."),
    from_=DayOrWeek(
        required=True,
        description="The first day, YYYY-MM-DD, or ISO week, YYYY-Www, included. Its whole week"
        " is asked for.",
    ),
    to=DayOrWeek(
        required=True,
        description="The last day or week, included, not in the future. Its whole week is asked"
        " for.",
    ),
)
RESUME = _schema(
    "ResumeRequest",
    only_failed=TrueOrFalse(
        load_default=False, description="The weeks that failed, none that was not tried."
    ),
)
NOTHING = _schema("NoRequest")


def read_body(schema: Schema) -> dict[str, Any]:
    """The members of the body; a problem names each that is wrong. No body is an empty object."""
    text = _text()
    found = _parse(text) if text.strip() else {}
    if not isinstance(found, dict):
        raise unprocessable("body", "is no JSON object")
    try:
        loaded = dict(schema.load(found))
    except ValidationError as error:
        known = ", ".join(sorted(schema.fields)) or "none"
        raise _unprocessable(
            [
                ParameterError(
                    parameter=storable(str(name))[:100],
                    message=" ".join(map(str, messages))
                    if name in schema.fields
                    else f"is unknown; known are {known}",
                )
                for name, messages in error.messages_dict.items()
            ]
        ) from error
    if found:
        call().body = plain(loaded)
    return loaded


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The members in one form, whatever form they were sent in."""
    return {
        name: value.text if isinstance(value, Days) else value
        for name, value in sorted(values.items())
    }


def read_key() -> str:
    """The Idempotency-Key of the call; a problem (400) when there is none, or no usable one."""
    sent = request.headers.get("Idempotency-Key")
    match = _KEY.fullmatch(sent.strip()) if sent else None
    if match is None:
        wrong = "is needed" if not sent else "is no usable key"
        raise ProblemError(
            400,
            "idempotency-key",
            f"the header Idempotency-Key {wrong}: send 1 to 200 visible ASCII characters that"
            " name this job, such as a UUID, and the same ones when you repeat the call",
        )
    call().idempotency_key = match.group(2)
    return match.group(2)


def fingerprint(values: Mapping[str, Any]) -> str:
    """What the call asks for; the same key may ask for nothing else."""
    content = [request.method, request.path, plain(values)]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def unprocessable(member: str, message: str) -> ProblemError:
    """422 that names the member."""
    return _unprocessable([ParameterError(parameter=member, message=message)])


def _unprocessable(errors: list[ParameterError]) -> ProblemError:
    detail = "; ".join(f"{error.parameter}: {error.message}" for error in errors)
    return ProblemError(422, "invalid-body", detail, errors=errors)


def _text() -> str:
    """The body as text; the trail has it from here on, should it be refused."""
    request.max_content_length = MOST_BYTES
    try:
        data = request.get_data()
    except RequestEntityTooLarge as error:
        raise ProblemError(
            413, "body-too-large", f"the body may have at most {MOST_BYTES} bytes"
        ) from error
    if not data:
        return ""
    call().body = storable(data.decode("utf-8", "replace"))
    if request.mimetype != "application/json":
        raise ProblemError(
            415, "unsupported-media-type", "send the body as Content-Type: application/json"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProblemError(400, "invalid-json", "the body is no UTF-8") from error


def _parse(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, "invalid-json", "the body is no JSON") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a member that is there twice, one would be lost without a word."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise unprocessable(storable(name)[:100], "is given more than once")
        found[name] = value
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)
