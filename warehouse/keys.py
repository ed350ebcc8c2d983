"""API keys: random, kept only as SHA-256, each with a role and a scope."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import psycopg2.errors
from psycopg2.extensions import connection as Connection

from warehouse.errors import OversightError

ROLES = ("reader", "agent", "operator", "admin")
EVERYTHING = "*"
KEY_PATTERN = re.compile(r"ov_[A-Za-z0-9_-]{43}")
_SCOPE_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SCOPE_ID = re.compile(r'[^{}",\\\x00-\x1f\x7f]+')


class ApiKeyError(OversightError):
    """A key cannot be made, found or revoked."""


@dataclass(frozen=True, kw_only=True)
class KeyRecord:
    """What is known of a key; the key itself is not."""

    name: str
    role: str
    scope: Mapping[str, Sequence[str]]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def state(self, now: datetime) -> str:
        """Whether the key works, in words."""
        if self.revoked_at:
            return "revoked"
        if self.expires_at is None:
            return "never expires"
        verb = "expired" if self.expires_at <= now else "expires"
        return f"{verb} {moment(self.expires_at)}"


def moment(when: datetime) -> str:
    """A time for people, in UTC to the minute."""
    return f"{when.astimezone(timezone.utc):%Y-%m-%d %H:%MZ}"


def is_scope_name(text: str) -> bool:
    """Whether `oversight.scope_<text>` is a setting that a policy can compare."""
    return _SCOPE_NAME.fullmatch(text) is not None


def is_scope_id(text: str) -> bool:
    """Whether an id can stand in a scope setting such as {a,b}: no comma, brace or quote."""
    return _SCOPE_ID.fullmatch(text) is not None


def create_key(
    connection: Connection,
    *,
    name: str,
    role: str,
    scope: Mapping[str, Sequence[str]],
    expires_at: datetime | None = None,
) -> str:
    """Store a new key and return it, the only time that it can be read; the caller commits.

    `scope` maps a scope name to ids; ["*"] means all. Without a partner scope all partners of the
    organizations are meant.
    """
    complete = {"partner": [EVERYTHING]} | {key: list(ids) for key, ids in scope.items()}
    _check(name, role, complete)
    key = f"ov_{secrets.token_urlsafe(32)}"
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "insert into metadata.principals (name, key_sha256, role, scope, expires_at)"
                " values (%s, %s, %s, %s, %s)",
                (
                    name,
                    hashlib.sha256(key.encode("ascii")).digest(),
                    role,
                    json.dumps(complete),
                    expires_at,
                ),
            )
    except psycopg2.errors.UniqueViolation as error:
        raise ApiKeyError(
            f"a key named {name!r} exists already; choose another name"
            " (a revoked key keeps its name, so that logs stay unambiguous)"
        ) from error
    return key


def list_keys(connection: Connection) -> list[KeyRecord]:
    """All keys, revoked ones included, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select name, role, scope, created_at, expires_at, revoked_at, last_used_at"
            " from metadata.principals order by created_at, name"
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return [
        KeyRecord(
            name=name,
            role=role,
            scope=scope,
            created_at=created_at,
            expires_at=expires_at,
            revoked_at=revoked_at,
            last_used_at=last_used_at,
        )
        for name, role, scope, created_at, expires_at, revoked_at, last_used_at in rows
    ]


def revoke_key(connection: Connection, name: str) -> None:
    """End a key for good; the caller commits. A running API honours it within 5 seconds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update metadata.principals set revoked_at = now()"
            " where name = %s and revoked_at is null",
            (name,),
        )
        if cursor.rowcount == 0:
            raise ApiKeyError(
                f"no key named {name!r} is in force; `oversight key list` shows what there is"
            )


def _check(name: str, role: str, scope: Mapping[str, Sequence[str]]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}", name):
        raise ApiKeyError(
            f"the name {name!r} is refused; use letters, digits, spaces and ._@-, at most 100"
        )
    if role not in ROLES:
        raise ApiKeyError(f"there is no role {role!r}; use one of {', '.join(ROLES)}")
    if not scope.get("organization"):
        raise ApiKeyError("a key needs at least one organization; '*' means all")
    for scope_name, ids in scope.items():
        if not is_scope_name(scope_name):
            raise ApiKeyError(f"the scope name {scope_name!r} is refused; use a-z, 0-9 and _")
        for scope_id in ids:
            if not is_scope_id(scope_id):
                raise ApiKeyError(
                    f"the {scope_name} id {scope_id!r} is refused;"
                    " it holds a comma, brace, quote, backslash or control character"
                )
