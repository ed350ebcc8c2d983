"""The pages for people: status at /, in the caller's scope and role."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, g, request

from api.access.auth import may
from api.pages import status, words
from api.pages.page import page, problem_page
from api.problems import ProblemError
from api.reporting.deployed import Served
from api.state import PREFIX, state
from api.watching.metrics import Latency

EVERY_SECONDS = 60
FEWEST_REQUESTS = 20
blueprint = Blueprint("pages", __name__)
blueprint.register_error_handler(ProblemError, problem_page)
for _filter in (
    words.ago,
    words.amount,
    words.breakable,
    words.count,
    words.milliseconds,
    words.counted,
    words.moment,
    words.percent,
    words.span,
):
    blueprint.add_app_template_filter(_filter)


@blueprint.get("/")
def show_status() -> Response:
    """How fresh each mart is, how long data waited, what ran and what is wrong."""
    from api.pages.lag_charts import lag_charts  # pygal, which only this page needs

    here = state()
    served = here.catalogue.current()
    message = status.message(served, g.principal, timeout_ms=here.limits.statement_timeout_ms)
    row = here.pool.read(message)
    assert row is not None
    content = status.parse(row[0])
    answer = page(
        "status.html",
        content=content,
        sentence=sentence(content),
        latency=_latency(served),
        fewest_requests=FEWEST_REQUESTS,
        charts={
            mart["view"]: lag_charts(mart["view"], sla_seconds=mart["sla_seconds"], content=content)
            for mart in content["marts"]
        },
        sees_counts=g.principal.sees_all("organization"),
        sees_alerts=status.sees_alerts(g.principal),
        sees_several=status.sees_several(g.principal),
        failing_limit=status.FAILING_KEYS,
        is_repeated=request.args.get("every") == str(EVERY_SECONDS),
        every=EVERY_SECONDS,
    )
    if request.args.get("every") == str(EVERY_SECONDS):
        # Asked for, never by default: a page that changes under a reader disturbs.
        answer.headers["Refresh"] = str(EVERY_SECONDS)
    return answer


def sentence(content: dict[str, Any]) -> tuple[str, str]:
    """The whole page in one line: a state (ok, warn, bad) and words."""
    marts = content["marts"]
    if not marts:
        return "none", "There is no mart that you may read."
    late = [mart["view"] for mart in marts if mart["status"] == "late"]
    never = [mart["view"] for mart in marts if mart["status"] == "never"]
    failed = [mart["view"] for mart in marts if mart["view"] in _failed(content)]
    parts = []
    if late:
        parts.append(f"{words.counted(len(late), 'mart')} of {len(marts)} late")
    if never:
        parts.append(f"{words.counted(len(never), 'mart')} of {len(marts)} without data")
    if failed:
        parts.append(f"figures of {words.counted(len(failed), 'mart')} disagree with the engines")
    critical = [alert for alert in content["alerts"] if alert["severity"] == "critical"]
    if content["alerts"]:
        parts.append(words.counted(len(content["alerts"]), "alert"))
    if late or failed or critical:
        return "bad", _joined(parts)
    if parts:
        return "warn", _joined(parts)
    if len(marts) == 1:
        return "ok", "The mart is fresh, and no figure disagrees with the engines."
    return "ok", f"All {len(marts)} marts are fresh, and no figure disagrees with the engines."


def _latency(served: Served) -> list[tuple[str, Latency]]:
    """How long the API's answers took, busiest route first, of marts that the role may read.

    How many there were is for those who operate and see all: it speaks of everybody's requests.
    Routes beside the marts are for those who operate.
    """
    hidden = {
        f"{PREFIX}/{path}"
        for path, item in served.marts.items()
        if g.principal.role not in item.mart.readers
    }
    operates = may(g.principal, "operate")
    found = [
        (_as_described(route), latency)
        for route, latency in state().metrics.latency().items()
        if latency.requests
        and route.startswith("/api/")
        and route not in hidden
        and (operates or route.startswith(f"{PREFIX}/"))
    ]
    return sorted(found, key=lambda item: -item[1].requests)


def _as_described(route: str) -> str:
    """A route of Flask's as the API's description writes it."""
    return re.sub(r"<(?:[^<>:]*:)?([^<>]*)>", r"{\1}", route)


def _failed(content: dict[str, Any]) -> set[str]:
    return {mart for mart, counts in content["parity"].items() if counts["failed"]}


def _joined(parts: list[str]) -> str:
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."
