"""Who calls: API keys, looked up by their SHA-256 and remembered for a few seconds."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import structlog
from psycopg2.sql import SQL, Literal

from api.pool import Pool
from api.problems import ProblemError, unauthorized
from warehouse.keys import EVERYTHING, KEY_PATTERN, is_scope_id, is_scope_name

REMEMBERED_KEYS = 10_000
_HEADER = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)

_LOOK_UP = SQL("""
set local role oversight_api;
set local statement_timeout = '5s';
update metadata.principals set last_used_at = now() where principal_id = (
    select principal_id from metadata.principals
    where key_sha256 = decode({digest}, 'hex') and revoked_at is null
    and (last_used_at is null or last_used_at < now() - interval '1 minute')
    for update skip locked
);
select name, role, scope::text, extract(epoch from expires_at)::float8
from metadata.principals where key_sha256 = decode({digest}, 'hex') and revoked_at is null
""")

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Someone with a key; `scope` maps a scope name to ids, ("*",) means all, no name none."""

    name: str
    role: str
    scope: Mapping[str, tuple[str, ...]]
    expires_at: datetime | None

    def ids(self, scope_name: str) -> tuple[str, ...]:
        """The ids of one scope; empty means that nothing may be seen."""
        return self.scope.get(scope_name, ())

    def sees_all(self, scope_name: str) -> bool:
        """Whether one scope is not restricted."""
        return EVERYTHING in self.ids(scope_name)


@dataclass(frozen=True)
class _Remembered:
    principal: Principal | None
    until: float


class Authenticator:
    """Keys to principals. A revoked key works for `remember_seconds` at most."""

    def __init__(self, pool: Pool, *, remember_seconds: float) -> None:
        self._pool = pool
        self._remember_seconds = remember_seconds
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._lock = threading.Lock()

    def principal(self, authorization: str | None) -> Principal:
        """The principal of an Authorization header; a problem (401) when there is none."""
        if not authorization:
            raise unauthorized("send an API key: `Authorization: Bearer ov_...`")
        match = _HEADER.fullmatch(authorization)
        if match is None or not KEY_PATTERN.fullmatch(match.group(1)):
            raise _refused()
        digest = hashlib.sha256(match.group(1).encode("ascii")).hexdigest()
        principal = self._recall(digest)
        if principal is None:
            raise _refused()
        if principal.expires_at and principal.expires_at <= datetime.now(timezone.utc):
            raise _refused()
        return principal

    def _recall(self, digest: str) -> Principal | None:
        now = time.monotonic()
        with self._lock:
            remembered = self._remembered.get(digest)
        if remembered is not None and now < remembered.until:
            return remembered.principal
        principal = self._look_up(digest)
        with self._lock:
            # Counted from before the look-up: what was revoked meanwhile is not kept longer.
            self._remembered[digest] = _Remembered(principal, now + self._remember_seconds)
            self._remembered.move_to_end(digest)
            while len(self._remembered) > REMEMBERED_KEYS:
                self._remembered.popitem(last=False)
        return principal

    def _look_up(self, digest: str) -> Principal | None:
        row = self._pool.read(_LOOK_UP.format(digest=Literal(digest)))
        if row is None:
            return None
        name, role, scope, expires = row
        return Principal(
            name=name,
            role=role,
            scope=_clean_scope(name, json.loads(scope)),
            expires_at=None if expires is None else datetime.fromtimestamp(expires, timezone.utc),
        )


def require_role(principal: Principal, readers: tuple[str, ...]) -> None:
    """A problem (403) unless the principal's role is among the readers."""
    if principal.role not in readers:
        raise ProblemError(403, "forbidden", f"the role {principal.role!r} may not read this")


def _refused() -> ProblemError:
    return unauthorized("the API key is unknown, expired or revoked")


def _clean_scope(name: str, scope: Any) -> dict[str, tuple[str, ...]]:
    """A scope as it may be put into settings; what is malformed gives nothing, never everything."""
    clean: dict[str, tuple[str, ...]] = {}
    if isinstance(scope, dict):
        for scope_name, ids in scope.items():
            is_list = isinstance(ids, list) and all(isinstance(item, str) for item in ids)
            if is_scope_name(scope_name) and is_list and all(is_scope_id(item) for item in ids):
                clean[scope_name] = tuple(sorted(set(ids)))
                continue
            log.warning("malformed scope ignored", principal=name, scope=scope_name)
    return clean
