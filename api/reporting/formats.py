"""Which representation the caller's Accept header asks for, and headers of what is only rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from api.problems import ProblemError

JSON = "application/json"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
OF_A_MART = (JSON, CSV, NDJSON)
MOST_CHARACTERS = 1000
"""Of an Accept header: werkzeug's parser takes the square of its length, and the whole worker."""
CONTENT_TYPES = {CSV: "text/csv; charset=utf-8; header=present", NDJSON: NDJSON}


def chosen(accept: str | None, offered: Sequence[str] = OF_A_MART) -> str:
    """The offered media type that the header prefers, the first of equals; a problem (406) if none.

    Without a header it is the first. Parameters such as `charset` are not looked at.
    """
    if accept is None or not accept.strip():
        return offered[0]
    if len(accept) > MOST_CHARACTERS:
        raise ProblemError(
            406, "not-acceptable", f"the Accept header may have {MOST_CHARACTERS} characters"
        )
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


def headers(
    freshness: Mapping[str, Any],
    window: tuple[str, str] | None,
    rows: int,
    next_page: str | None,
) -> dict[str, str]:
    """What JSON says beside the rows; what is null there is no header."""
    members = {
        **freshness,
        "window_from": window and window[0],
        "window_to": window and window[1],
        "row_count": rows,
        "next_page": next_page,
    }
    return {
        header_name(name): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in members.items()
        if value is not None
    }


def header_name(member: str) -> str:
    """The header of a member of the answer in JSON."""
    return "Oversight-" + "-".join(part.capitalize() for part in member.split("_"))
