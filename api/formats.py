"""Which representation of an answer the caller's Accept header asks for."""

from __future__ import annotations

from collections.abc import Sequence

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from api.problems import ProblemError

JSON = "application/json"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
OF_A_MART = (JSON, CSV, NDJSON)


def chosen(accept: str | None, offered: Sequence[str] = OF_A_MART) -> str:
    """The offered media type that the header prefers, the first of equals; a problem (406) if none.

    Without a header it is the first. Parameters such as `charset` are not looked at.
    """
    if accept is None or not accept.strip():
        return offered[0]
    sent = parse_accept_header(accept, MIMEAccept)
    wanted = MIMEAccept([(kind.partition(";")[0].strip(), quality) for kind, quality in sent])
    # Asked for each alone: best_match would give `text/csv` before JSON for the header `*/*`.
    best = max(offered, key=wanted.quality)
    if wanted.quality(best) <= 0:
        raise ProblemError(
            406,
            "not-acceptable",
            f"this address answers {', '.join(offered)}; the Accept header asks for none of them",
            extra={"known_media_types": list(offered)},
        )
    return best
