"""What tests ask of the answers that the API keeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from api_warehouse import Client
from werkzeug.test import TestResponse

from api.front.answers import Answers
from api.state import state_of

CHANGED = "update reporting.daily_metrics set clicks = clicks + 1 where organization_id = 'alpha'"
TOLD = (
    "update metadata.data_versions set version = version + 1, last_refresh_at = clock_timestamp()"
    " where model = 'daily_metrics' and organization_id = 'alpha'"
)


def answers_of(client: Client) -> Answers:
    """The answers of the client's app."""
    found: Answers = state_of(client.flask.application).listener.answers
    return found


def is_known(answer: TestResponse) -> bool:
    """Whether it was given without asking the database."""
    return answer.headers.get("Cache-Status") == "oversight; hit"


def until(holds: Callable[[], Any], seconds: float = 30) -> None:
    """Wait for what has to come, however busy the machine is."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
