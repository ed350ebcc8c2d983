"""API keys: random, kept only as SHA-256, each with a role, a scope and a tier."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg2.errors
from psycopg2.extensions import connection as Connection

from warehouse.errors import OversightError

TIERS = ("standard", "enterprise")
SESSION_MOST_HOURS = 24
EVERYTHING = "*"
KEY_PATTERN = re.compile(r"ov_[A-Za-z0-9_-]{43}")
SESSION_ID = re.compile(r"[\x21-\x7e]{1,200}")
_SCOPE_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SCOPE_ID = re.compile(r'[^{}",\\\x00-\x1f\x7f]+')


class ApiKeyError(OversightError):
    """A key cannot be made, found or revoked."""


@dataclass(frozen=True, kw_only=True)
class KeyRecord:
    """What is known of a key; the key itself is not."""

    name: str
    role: str
    tier: str
    scope: Mapping[str, Sequence[str]]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    rotated_at: datetime | None
    old_key_until: datetime | None

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
    tier: str = TIERS[0],
) -> str:
    """Store a new key and return it, the only time that it can be read; the caller commits.

    The role must be one of the deployed catalogue; before the first one any may be given. `scope`
    maps a scope name to ids; ["*"] means all. Without a partner scope all partners of the
    organizations are meant.
    """
    complete = {"partner": [EVERYTHING]} | {key: list(ids) for key, ids in scope.items()}
    _check(name, tier, complete)
    _check_role(connection, role)
    key, digest = _new_key()
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "insert into metadata.principals (name, key_sha256, role, tier, scope, expires_at)"
                " values (%s, %s, %s, %s, %s, %s)",
                (name, digest, role, tier, json.dumps(complete), expires_at),
            )
    except psycopg2.errors.UniqueViolation as error:
        raise ApiKeyError(
            f"a key named {name!r} exists already; choose another name"
            " (a revoked key keeps its name, so that logs stay unambiguous)"
        ) from error
    return key


def unknown_organizations(connection: Connection, ids: Sequence[str]) -> list[str]:
    """Those of which nothing has landed and that no source declares; none before a deployment."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select o.id from unnest(%s::text[]) with ordinality as o (id, place)"
            " cross join (select content -> 'sources' as sources from metadata.catalogue"
            " order by catalogue_id desc limit 1) as c"
            " where o.id <> %s"
            " and not exists (select from metadata.batch_tables where organization_id = o.id)"
            " and not exists (select from jsonb_array_elements(c.sources) as s"
            " where s ->> 'organization_value' = o.id)"
            " order by o.place",
            (list(ids), EVERYTHING),
        )
        return [str(row[0]) for row in cursor.fetchall()]


def rotate_key(
    connection: Connection,
    name: str,
    *,
    overlap: timedelta = timedelta(),
    expires_at: datetime | None = None,
) -> str:
    """Give a principal a new key and return it; the old one works until the overlap is over.

    Role, scope, tier and, unless another one is given, expiry stay. A key whose own overlap was not
    over yet ends: there are two at most. The caller commits.
    """
    key, digest = _new_key()
    with connection.cursor() as cursor:
        cursor.execute(
            "update metadata.principals set key_sha256 = %s, rotated_at = now(),"
            " old_key_sha256 = case when least(%s, expires_at) > now() then key_sha256 end,"
            " old_key_until = case when least(%s, expires_at) > now()"
            " then least(%s, expires_at) end,"
            " expires_at = coalesce(%s, expires_at)"
            " where name = %s and revoked_at is null"
            " and coalesce(%s, expires_at, 'infinity') > now()",
            (digest, *[datetime.now(timezone.utc) + overlap] * 3, expires_at, name, expires_at),
        )
        if cursor.rowcount == 0:
            raise _not_in_force(name)
    return key


def list_keys(connection: Connection) -> list[KeyRecord]:
    """All keys, revoked ones included, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select name, role, tier, scope, created_at, expires_at, revoked_at, last_used_at,"
            " rotated_at, case when old_key_until > now() then old_key_until end"
            " from metadata.principals order by created_at, name"
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return [
        KeyRecord(
            name=name,
            role=role,
            tier=tier,
            scope=scope,
            created_at=created_at,
            expires_at=expires_at,
            revoked_at=revoked_at,
            last_used_at=last_used_at,
            rotated_at=rotated_at,
            old_key_until=old_key_until,
        )
        for (
            name,
            role,
            tier,
            scope,
            created_at,
            expires_at,
            revoked_at,
            last_used_at,
            rotated_at,
            old_key_until,
        ) in rows
    ]


def revoke_key(connection: Connection, name: str) -> None:
    """End a principal's keys for good; the caller commits. An API honours it within 5 seconds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update metadata.principals set revoked_at = now()"
            " where name = %s and revoked_at is null",
            (name,),
        )
        if cursor.rowcount == 0:
            raise _not_in_force(name)


def revoke_session(connection: Connection, jti: str) -> None:
    """End a session (JWT) early by its `jti`; the caller commits. An API honours it within 5 s."""
    if not SESSION_ID.fullmatch(jti):
        raise ApiKeyError(
            f"{jti!r} is no id of a session; it is the claim `jti` of its token,"
            " 1 to 200 printable characters without spaces"
        )
    with connection.cursor() as cursor:
        cursor.execute("delete from metadata.revoked_sessions where until < now()")
        # Skew included: no token that counts as valid now lasts longer.
        cursor.execute(
            "insert into metadata.revoked_sessions (jti, until)"
            " values (%s, now() + make_interval(hours => %s)) on conflict (jti) do nothing",
            (jti, SESSION_MOST_HOURS + 1),
        )


def _new_key() -> tuple[str, bytes]:
    """A key and its SHA-256."""
    key = f"ov_{secrets.token_urlsafe(32)}"
    return key, hashlib.sha256(key.encode("ascii")).digest()


def _not_in_force(name: str) -> ApiKeyError:
    return ApiKeyError(
        f"no key named {name!r} is in force; `oversight key list` shows what there is"
    )


def _check_role(connection: Connection, role: str) -> None:
    """Against the deployed catalogue; what no catalogue has may do nothing, so nothing is lost."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select array(select r ->> 'name' from jsonb_array_elements(content -> 'roles') as r)"
            " from metadata.catalogue order by catalogue_id desc limit 1"
        )
        row = cursor.fetchone()
    if row is not None and row[0] and role not in row[0]:
        raise ApiKeyError(
            f"there is no role {role!r}; use one of {', '.join(row[0])},"
            " or add it to seeds/roles.csv and run `oversight deploy`"
        )


def _check(name: str, tier: str, scope: Mapping[str, Sequence[str]]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}", name):
        raise ApiKeyError(
            f"the name {name!r} is refused; use letters, digits, spaces and ._@-, at most 100"
        )
    if tier not in TIERS:
        raise ApiKeyError(f"there is no tier {tier!r}; use one of {', '.join(TIERS)}")
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
