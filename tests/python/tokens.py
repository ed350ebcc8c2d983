"""Sessions (JWT) as an identity provider would sign them."""

from __future__ import annotations

import os
import time
from typing import Any

import jwt

SECRET = "a-secret-of-an-identity-provider-that-only-tests-have-and-nobody-else"
ISSUER, AUDIENCE = "https://login.example", "oversight"
SCOPE = {"organization": ["alpha"], "partner": ["reddit_ads:1"]}


def claims(**change: Any) -> dict[str, Any]:
    """Claims that hold, except for what is changed; None leaves one out."""
    now = int(time.time())
    made = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "user@example.com", "jti": os.urandom(8).hex(),
        "iat": now, "exp": now + 600, "role": "reader", "scope": SCOPE,
    }  # fmt: skip
    return {name: value for name, value in (made | change).items() if value is not None}


def token(**change: Any) -> str:
    """A token signed with the secret."""
    return jwt.encode(claims(**change), SECRET, "HS256")
