"""JSON whose numbers keep all their digits on the way through the SDK.

The SDK's encoders know no decimals: a Decimal becomes a string and a float loses digits. So a
number with a point travels as a marked string, and the mark and its quotes are taken off the
encoded bytes just before they leave. The mark is random and never leaves the process, so no text
can hold it.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Any, NoReturn

_MARK = f"number-{secrets.token_hex(16)}:"
_NUMBER = r"(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
_MARKED_TEXT = re.compile(f'"{_MARK}{_NUMBER}"')
_MARKED_BYTES = re.compile(_MARKED_TEXT.pattern.encode("ascii"))


def loads(body: bytes) -> Any:
    """Parsed JSON with marked numbers; ValueError when it is none."""
    try:
        return json.loads(body, parse_float=_marked, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def dumps(value: Any) -> str:
    """Compact JSON of what `loads` gave, its numbers as they came."""
    return restore_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def restore_text(encoded: str) -> str:
    """Encoded JSON with its marked numbers as numbers."""
    return _MARKED_TEXT.sub(r"\1", encoded) if _MARK in encoded else encoded


def restore(encoded: bytes) -> bytes:
    """As `restore_text`, of bytes."""
    return _MARKED_BYTES.sub(rb"\1", encoded)


def _marked(digits: str) -> str:
    return _MARK + digits


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
