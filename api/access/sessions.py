"""Sessions of people: tokens (JWT) of an identity provider, and the login cookie of the pages."""

from __future__ import annotations

import hashlib
import hmac
import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import jwt
from itsdangerous import BadData, URLSafeTimedSerializer

from api.access.jwks import JwksFile
from warehouse.keys import SESSION_ID, SESSION_MOST_HOURS, TIERS
from warehouse.settings import SessionSettings

COOKIE = "oversight_session"
COOKIE_SECONDS = 12 * 3600
SKEW_SECONDS = 30
REMEMBERED_SESSIONS = 10_000
_TOKEN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}")
_TOKEN_CHARACTERS = 8192
_SUBJECT_CHARACTERS = 255
_CLAIMS = ("iss", "aud", "sub", "jti", "iat", "exp")
# What a token that nobody signed may do to a parser before its signature is looked at.
_UNREADABLE = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
_DIGEST = re.compile(r"[0-9a-f]{64}")


class LoginCookies:
    """Makes and reads cookie values: the signed digest of a key, never the key.

    The digest is looked up like a key at each request, so that a login ends with its key.
    """

    def __init__(self, signing_key: str) -> None:
        self._serializer = URLSafeTimedSerializer(
            signing_key,
            salt="oversight.login",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )

    def issue(self, digest: str) -> str:
        """The value for a browser that has shown a key of this SHA-256 (hexadecimal)."""
        return str(self._serializer.dumps(digest))

    def read(self, value: str) -> str | None:
        """The SHA-256 of the key that logged in; None when it is not ours or over 12 hours old."""
        try:
            digest = self._serializer.loads(value, max_age=COOKIE_SECONDS)
        except (BadData, ValueError, TypeError):
            return None
        return digest if isinstance(digest, str) and _DIGEST.fullmatch(digest) else None


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a valid token says; `scope` as it was sent, `id` the same for all tokens of a person."""

    digest: str
    id: str
    subject: str
    jti: str
    role: str
    tier: str
    scope: Any
    expires_at: float


class Sessions:
    """Verifies tokens and remembers those that were valid, by their SHA-256, until they expire.

    `pseudonyms_key` hides subjects in ids; hosts that share it agree on them.
    """

    def __init__(self, settings: SessionSettings, *, pseudonyms_key: str) -> None:
        self._settings = settings
        self._jwks = JwksFile(settings.jwks) if settings.jwks else None
        self._pseudonyms_key = pseudonyms_key.encode()
        self._remembered: OrderedDict[bytes, Session] = OrderedDict()
        self._lock = threading.Lock()

    def verify(self, token: str) -> Session | None:
        """The session of a token; None for every token that is not to be trusted."""
        if len(token) > _TOKEN_CHARACTERS or not _TOKEN.fullmatch(token):
            return None
        if self._jwks is not None and self._jwks.has_changed():
            with self._lock:
                # Not cleared: what is being read with the keys before goes to the one before.
                self._remembered = OrderedDict()
        remembered = self._remembered
        digest = hashlib.sha256(token.encode("ascii")).digest()
        session = remembered.get(digest)
        if session is None:
            session = self._read(token, digest.hex())
            if session is None:
                return None
            with self._lock:
                remembered[digest] = session
                while len(remembered) > REMEMBERED_SESSIONS:
                    remembered.popitem(last=False)
        if session.expires_at > time.time():
            return session
        with self._lock:
            remembered.pop(digest, None)
        return None

    def _read(self, token: str, digest: str) -> Session | None:
        try:
            claims = self._claims(token)
            if claims is None or claims["exp"] - claims["iat"] > SESSION_MOST_HOURS * 3600:
                return None
            expires_at = float(claims["exp"]) + SKEW_SECONDS
            pseudonym = self._pseudonym(claims["sub"])
        except _UNREADABLE:
            return None
        subject, jti, role = claims["sub"], claims["jti"], claims.get("role")
        if not (subject and len(subject) <= _SUBJECT_CHARACTERS and SESSION_ID.fullmatch(jti)):
            return None
        if not isinstance(role, str):
            return None
        return Session(
            digest=digest,
            id=pseudonym,
            subject=subject,
            jti=jti,
            role=role,
            tier=claims["tier"] if claims.get("tier") in TIERS else TIERS[0],
            scope=claims.get("scope"),
            expires_at=expires_at,
        )

    def _claims(self, token: str) -> dict[str, Any] | None:
        """The claims when signature, algorithm, times, issuer and audience are right.

        The algorithm is that of the key, never what the token asks for.
        """
        key: Any
        if self._jwks is None:
            key, algorithm = self._settings.secret, "HS256"
        else:
            found = self._jwks.key(jwt.get_unverified_header(token).get("kid"))
            if found is None:
                return None
            key, algorithm = found
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=self._settings.issuer,
            audience=self._settings.audience,
            leeway=SKEW_SECONDS,
            options={"require": list(_CLAIMS)},
        )

    def _pseudonym(self, subject: str) -> str:
        return "session-" + hmac.digest(self._pseudonyms_key, subject.encode(), "sha256").hex()[:24]
