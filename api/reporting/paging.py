"""Page tokens: where the page before ended, signed, and bound to the query that they continue."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from itsdangerous import BadData, URLSafeSerializer

from api.access.auth import Principal
from api.problems import ApiError, ParameterError, ProblemError, bad_request
from api.reporting.parameters import Request
from warehouse.catalogue import Mart
from warehouse.settings import SIGNING_KEY_MIN_CHARACTERS, Settings


@dataclass(frozen=True, kw_only=True)
class Position:
    """The window of the first page and the grain of the last row served, as PostgreSQL's text."""

    first: date | None
    last: date | None
    after: tuple[str | None, ...]


class PageTokens:
    """Makes and reads tokens. They carry only values of rows that their receiver has seen."""

    def __init__(self, signing_key: str) -> None:
        self._serializer = URLSafeSerializer(
            signing_key,
            salt="oversight.page",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )

    def issue(self, mart: Mart, request: Request, principal: Principal, position: Position) -> str:
        """The token of the page after `position`."""
        return str(
            self._serializer.dumps(
                [
                    _fingerprint(mart, request, principal),
                    position.first and position.first.isoformat(),
                    position.last and position.last.isoformat(),
                    list(position.after),
                ]
            )
        )

    def read(self, mart: Mart, request: Request, principal: Principal) -> Position | None:
        """Where the request's token goes on, None without one; a problem (400) if not ours."""
        if request.page is None:
            return None
        try:
            fingerprint, first, last, after = self._serializer.loads(request.page)
        except (BadData, ValueError, TypeError) as error:
            raise _refused("is no page token of this API") from error
        if fingerprint != _fingerprint(mart, request, principal):
            raise _refused(
                "belongs to another query; send it with the parameters of its first page"
            )
        return Position(
            first=first and date.fromisoformat(first),
            last=last and date.fromisoformat(last),
            after=tuple(after),
        )


def signing_key(settings: Settings) -> str:
    """The key from the environment or from the file that `oversight up` makes."""
    if settings.signing_key:
        return settings.signing_key
    try:
        key = settings.signing_key_path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise ApiError(
            f"there is no signing key: set OVERSIGHT_SIGNING_KEY, or run `oversight up`, which"
            f" makes {settings.signing_key_path}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ApiError(
            f"can't read the signing key {settings.signing_key_path}: {error}"
        ) from error
    if len(key) < SIGNING_KEY_MIN_CHARACTERS:
        raise ApiError(
            f"the signing key in {settings.signing_key_path} is shorter than"
            f" {SIGNING_KEY_MIN_CHARACTERS} characters; delete the file and run `oversight up`"
        )
    return key


def _fingerprint(mart: Mart, request: Request, principal: Principal) -> str:
    """What is the same on every page: mart, grain, parameters as sent, scope; not page_size."""
    scope: Sequence[tuple[str, Sequence[str]]] = sorted(principal.scope.items())
    parts = [mart.name, mart.grain, request.query, scope]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _refused(message: str) -> ProblemError:
    return bad_request([ParameterError(parameter="page", message=message)])
