"""Forms of the pages: each carries a token that only a page of ours could have put there."""

from __future__ import annotations

import hashlib
import secrets

from itsdangerous import BadData, URLSafeTimedSerializer

FORM_SECONDS = 12 * 3600


class FormTokens:
    """Tokens bound to the value of a cookie, which another site can neither read nor set."""

    def __init__(self, signing_key: str) -> None:
        self._serializer = URLSafeTimedSerializer(
            signing_key,
            salt="oversight.form",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )

    def issue(self, cookie: str) -> str:
        """The token for a form of a browser that has, or is given, this cookie."""
        return str(self._serializer.dumps(_digest(cookie)))

    def is_ours(self, token: str | None, cookie: str | None) -> bool:
        """Whether a form with this token was made for this cookie, within the last 12 hours."""
        if not token or not cookie:
            return False
        try:
            found = self._serializer.loads(token, max_age=FORM_SECONDS)
        except (BadData, ValueError, TypeError):
            return False
        return isinstance(found, str) and secrets.compare_digest(found, _digest(cookie))


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogateescape")).hexdigest()
