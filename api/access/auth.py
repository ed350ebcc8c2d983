"""Who calls: keys and sessions, looked up in the database and remembered for a few seconds."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, Literal

import structlog
from psycopg2.sql import SQL
from psycopg2.sql import Literal as Value

from api.access.rates import Failures
from api.access.sessions import LoginCookies, Session, Sessions
from api.database.pool import Pool
from api.problems import ProblemError, unauthorized
from warehouse.declared import Role
from warehouse.keys import EVERYTHING, KEY_PATTERN, is_scope_id, is_scope_name

REMEMBERED_CALLERS = 10_000
Right = Literal["operate", "administer"]
_HEADER = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)

_LOOK_UP = SQL("""
set local role oversight_api;
set local statement_timeout = '5s';
update metadata.principals set last_used_at = now() where principal_id = (
    select principal_id from metadata.principals
    where {digest} in (key_sha256, old_key_sha256) and revoked_at is null
    and (last_used_at is null or last_used_at < now() - interval '1 minute')
    for update skip locked
);
select
    principal_id::text, name, role, tier, scope::text, extract(epoch from least(
        expires_at, case when key_sha256 is distinct from {digest} then old_key_until end
    ))::float8
from metadata.principals where {digest} in (key_sha256, old_key_sha256) and revoked_at is null
""")

_IS_REVOKED = SQL("""
set transaction read only;
set local role oversight_api;
set local statement_timeout = '5s';
select exists (select from metadata.revoked_sessions where jti = {jti})
""")

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Someone who may call; `scope` maps a scope name to ids, ("*",) means all, no name none.

    `id` is for counts and logs: it stays when the key is replaced and names no person.
    """

    id: str
    name: str
    role: str
    scope: Mapping[str, tuple[str, ...]]
    expires_at: datetime | None
    tier: str = "standard"
    rights: frozenset[Right] = field(default=frozenset())
    subject: str | None = None
    """Whom a session is of, as the identity provider calls them; for the audit trail alone."""

    @cached_property
    def sees(self) -> str:
        """The same for all who get the same answers."""
        return json.dumps([self.role, sorted(self.rights), sorted(self.scope.items())])

    def ids(self, scope_name: str) -> tuple[str, ...]:
        """The ids of one scope; empty means that nothing may be seen."""
        return self.scope.get(scope_name, ())

    def sees_all(self, scope_name: str) -> bool:
        """Whether one scope is not restricted."""
        return EVERYTHING in self.ids(scope_name)


@dataclass(frozen=True)
class _Remembered:
    principal: Principal | None
    generation: int
    until: float
    away_until: float


class Authenticator:
    """Credentials to principals. A revoked one works for `remember_seconds` at most.

    `roles` gives what the deployed catalogue declares. While the database is away a caller that it
    knew before is known for `away_seconds`: nothing can be revoked there either. So it is while
    all connections are busy or the look-up takes too long, but only as long as `hears`: a
    revocation would be told.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        roles: Callable[[], Mapping[str, Role]],
        cookies: LoginCookies,
        sessions: Sessions | None,
        failures: Failures,
        remember_seconds: float,
        away_seconds: float,
        hears: Callable[[], bool] = lambda: False,
    ) -> None:
        self._pool = pool
        self._roles = roles
        self._cookies = cookies
        self._sessions = sessions
        self._failures = failures
        self._generation = 0
        self._remember_seconds = remember_seconds
        self._away_seconds = away_seconds
        self._hears = hears
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._lock = threading.Lock()

    def principal(
        self, authorization: str | None, cookie: str | None = None, *, address: str = ""
    ) -> Principal:
        """The principal of an Authorization header, or else of a login cookie.

        A problem: 401 when there is none, 403 when its role is not declared, 429 when too many from
        the address were none. A cookie is for reads alone: another site can make a browser send it.
        """
        if authorization:
            match = _HEADER.fullmatch(authorization)
            principal = self._of_token(match.group(1), address) if match else None
        elif cookie:
            principal = self._of_digest(self._cookies.read(cookie), address)
        else:
            raise unauthorized("send a key or session: `Authorization: Bearer ...`")
        return self._in_force(principal, address)

    def log_in(self, key: str, *, address: str) -> str:
        """The value of the login cookie for a key; a problem when it is not in force."""
        digest = _digest(key)
        self._in_force(self._of_digest(digest, address), address)
        assert digest is not None
        return self._cookies.issue(digest)

    def forget(self) -> None:
        """Ask the database again from now on: keys, scopes or sessions have changed."""
        with self._lock:
            self._generation += 1

    def _of_token(self, token: str, address: str) -> Principal | None:
        digest = _digest(token)
        if digest is not None:
            return self._of_digest(digest, address)
        session = self._sessions.verify(token) if self._sessions else None
        if session is None:
            return None
        known_as = f"session {session.digest}"
        return self._recall(known_as, lambda: self._look_up_session(session), address)

    def _of_digest(self, digest: str | None, address: str) -> Principal | None:
        return self._recall(digest, lambda: self._look_up_key(digest), address) if digest else None

    def _recall(
        self, digest: str, look_up: Callable[[], Principal | None], address: str
    ) -> Principal | None:
        now = time.monotonic()
        with self._lock:
            remembered, generation = self._remembered.get(digest), self._generation
        if remembered is None or remembered.principal is None:
            self._failures.check(address)
        if remembered is not None and remembered.generation != generation:
            remembered = None
        if remembered is not None and now < remembered.until:
            return remembered.principal
        try:
            principal = look_up()
            # Counted from before the look-up: what was revoked meanwhile is not kept longer.
            found = _Remembered(
                principal, generation, now + self._remember_seconds, now + self._away_seconds
            )
        except ProblemError as problem:
            is_away = problem.code == "database-unavailable" or (
                problem.code in ("busy", "timeout") and self._hears()
            )
            if not is_away or remembered is None or now >= remembered.away_until:
                raise
            found = replace(remembered, until=now + 1)
        with self._lock:
            self._remembered[digest] = found
            self._remembered.move_to_end(digest)
            while len(self._remembered) > REMEMBERED_CALLERS:
                self._remembered.popitem(last=False)
        return found.principal

    def _look_up_key(self, digest: str) -> Principal | None:
        row = self._pool.read(_LOOK_UP.format(digest=Value(bytes.fromhex(digest))))
        if row is None:
            return None
        principal_id, name, role, tier, scope, expires = row
        return Principal(
            id=principal_id,
            name=name,
            role=role,
            tier=tier,
            scope=_clean_scope(principal_id, json.loads(scope)),
            expires_at=None if expires is None else datetime.fromtimestamp(expires, timezone.utc),
            rights=self._rights(role),
        )

    def _look_up_session(self, session: Session) -> Principal | None:
        row = self._pool.read(_IS_REVOKED.format(jti=Value(session.jti)))
        if row is None or row[0]:
            return None
        return Principal(
            id=session.id,
            name=session.id,
            role=session.role,
            tier=session.tier,
            scope=_clean_scope(session.id, session.scope),
            expires_at=datetime.fromtimestamp(session.expires_at, timezone.utc),
            rights=self._rights(session.role),
            subject=session.subject,
        )

    def _in_force(self, principal: Principal | None, address: str) -> Principal:
        """The principal; one and the same problem (401) for whatever is wrong."""
        now = datetime.now(timezone.utc)
        if principal is None or (principal.expires_at and principal.expires_at <= now):
            self._failures.count(address)
            raise unauthorized("the credential is unknown, expired or revoked")
        return principal

    def _rights(self, name: str) -> frozenset[Right]:
        role = self._roles().get(name)
        if role is None:
            raise ProblemError(403, "forbidden", f"the role {name!r} is not declared")
        rights: set[Right] = set()
        if role.may_operate:
            rights.add("operate")
        if role.may_administer:
            rights.add("administer")
        return frozenset(rights)


def may(principal: Principal, right: Right) -> bool:
    """Whether the principal's role, as the deployed catalogue declares it, has a right."""
    return right in principal.rights


def require_right(principal: Principal, right: Right) -> None:
    """A problem (403) unless the principal's role has the right."""
    if right not in principal.rights:
        raise ProblemError(
            403,
            "forbidden",
            f"the role {principal.role!r} may not do this; it takes one that may {right}, by"
            " seeds/roles.csv",
        )


def require_role(principal: Principal, readers: tuple[str, ...]) -> None:
    """A problem (403) unless the principal's role is among the readers."""
    if principal.role not in readers:
        raise ProblemError(403, "forbidden", f"the role {principal.role!r} may not read this")


def _digest(key: str) -> str | None:
    """What the database knows a key by; None for what can be none."""
    if not KEY_PATTERN.fullmatch(key):
        return None
    return hashlib.sha256(key.encode("ascii")).hexdigest()


def _clean_scope(principal_id: str, scope: Any) -> dict[str, tuple[str, ...]]:
    """A scope as it may be put into settings; what is malformed gives nothing, never everything."""
    clean: dict[str, tuple[str, ...]] = {}
    if isinstance(scope, dict):
        for scope_name, ids in scope.items():
            is_list = isinstance(ids, list) and all(isinstance(item, str) for item in ids)
            if is_scope_name(scope_name) and is_list and all(is_scope_id(item) for item in ids):
                clean[scope_name] = tuple(sorted(set(ids)))
                continue
            log.warning("malformed scope ignored", principal=principal_id, scope=scope_name)
    return clean
