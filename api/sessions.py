"""Sessions of people: the login cookie of the pages."""

from __future__ import annotations

import hashlib
import re

from itsdangerous import BadData, URLSafeTimedSerializer

COOKIE = "oversight_login"
COOKIE_SECONDS = 12 * 3600
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
