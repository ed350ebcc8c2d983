"""The public keys of an identity provider: a JWKS file, read again when it changes."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import jwt
import structlog

from api.problems import ApiError

_LOOK_SECONDS = 1.0
_RSA_LEAST_BITS = 2048
_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}

log = structlog.get_logger()


class JwksFile:
    """Keys by their `kid`. A file that spoils later is told to the log, and the last one stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp = self._current_stamp()
        self._keys = self._read()
        self._looked_at = time.monotonic()

    def key(self, kid: object) -> tuple[Any, str] | None:
        """A key and its algorithm; without a `kid` the only key that there is."""
        if isinstance(kid, str):
            return self._keys.get(kid)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def has_changed(self) -> bool:
        """Read the file again if it is another than a second ago; whether the keys are others."""
        if time.monotonic() - self._looked_at < _LOOK_SECONDS:
            return False
        with self._lock:
            self._looked_at = time.monotonic()
            stamp = self._current_stamp()
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            try:
                self._keys = self._read()
            except ApiError as error:
                log.error("the last good JWKS file stays in force", error=str(error))
                return False
            return True

    def _current_stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> dict[str, tuple[Any, str]]:
        """The keys of the file; ApiError when one of them is not to be used."""
        try:
            items = json.loads(self._path.read_text(encoding="utf-8"))["keys"]
            found = [_key(item) for item in items if item.get("use", "sig") == "sig"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            raise self._error(f"is no JWKS file: {error}") from error
        keys = {kid: (key, algorithm) for kid, key, algorithm in found}
        if not keys or len(keys) < len(found):
            raise self._error("holds no key to verify with, or two of one `kid`")
        return keys

    def _error(self, what: str) -> ApiError:
        return ApiError(
            f"OVERSIGHT_JWT_JWKS: {self._path} {what}; it is to hold the RSA (RS256) or P-256"
            " (ES256) public keys of the identity provider, each with its `kid`"
        )


def _key(item: dict[str, Any]) -> tuple[str, Any, str]:
    """`kid`, key and algorithm of a JWK; ValueError unless it is public, strong and of ours."""
    algorithm = _ALGORITHMS.get(item["kty"])
    if algorithm is None or item.get("alg", algorithm) != algorithm or "d" in item:
        raise ValueError(
            f"a key of kind {item['kty']}, {item.get('alg')} is not used, or is private"
        )
    if algorithm == "ES256" and item.get("crv") != "P-256":
        raise ValueError("an EC key is not of P-256")
    key = jwt.PyJWK(item, algorithm).key
    if algorithm == "RS256" and _bits(key) < _RSA_LEAST_BITS:
        raise ValueError(f"an RSA key has fewer than {_RSA_LEAST_BITS} bits")
    return str(item.get("kid", "")), key, algorithm


def _bits(key: Any) -> int:
    return int(key.key_size)
