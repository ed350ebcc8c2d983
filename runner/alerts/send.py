"""Messages to the sinks of OVERSIGHT_ALERTS, within a hard limit of time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

SEND_SECONDS = 20
_TO_COLLECT_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Message:
    """What one sink is to be told."""

    sink: str
    title: str
    body: str
    kind: Literal["info", "success", "warning", "failure"]


def sink_names(urls: Sequence[str]) -> list[str]:
    """What sinks are called in tables and logs: their place and kind, nothing of the address."""
    return [f"{place} {url.partition('://')[0].lower()}" for place, url in enumerate(urls, start=1)]


def send(
    urls: Sequence[str], messages: Sequence[Message], *, seconds: float = SEND_SECONDS
) -> dict[str, str | None]:
    """Send each message to its sink; gives back what went wrong per sink, None when nothing did.

    Ends within `seconds` whatever the sinks do. Neither they nor Apprise write to our logs.
    """
    url_of = dict(zip(sink_names(urls), urls, strict=True))
    asked = {
        "seconds": int(seconds) + _TO_COLLECT_SECONDS,
        "messages": [
            {
                "sink": message.sink,
                "url": url_of[message.sink],
                "title": message.title,
                "body": message.body,
                "kind": message.kind,
            }
            for message in messages
        ],
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "runner.alerts.sink"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        answers, _ = process.communicate(json.dumps(asked), timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        answers, _ = process.communicate(timeout=_TO_COLLECT_SECONDS)
    problems: dict[str, str | None] = {
        message.sink: f"it did not answer within {seconds} seconds" for message in messages
    }
    if process.returncode not in (0, -9):
        problems = dict.fromkeys(problems, f"sending ended with status {process.returncode}")
    for line in answers.splitlines():
        answer = json.loads(line)
        problems[answer["sink"]] = answer["problem"]
    return problems
