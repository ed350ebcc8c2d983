"""Gives messages to sinks through Apprise, in a process of its own: run by runner.alerts.send.

A sink that hangs, or a library that does, can then be ended from outside. Reads JSON from standard
input, so that addresses, which hold passwords, are in no list of processes; writes a line of JSON
for each sink as it is done.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any

import apprise


def deliver(message: dict[str, Any], output: threading.Lock) -> None:
    """One message to one sink."""
    target = apprise.Apprise()
    problem = None
    if not target.add(message["url"]):
        problem = "Apprise knows no such address"
    elif not target.notify(
        title=message["title"],
        body=message["body"],
        notify_type=message["kind"],
        body_format=apprise.NotifyFormat.TEXT,
    ):
        problem = "it refused the message or can't be reached"
    with output:
        sys.stdout.write(json.dumps({"sink": message["sink"], "problem": problem}) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Every message at the same time; whoever does not come back is left behind."""
    asked = json.load(sys.stdin)
    # Should the runner be killed meanwhile, this process ends all the same.
    signal.alarm(asked["seconds"])
    output = threading.Lock()
    threads = [
        threading.Thread(target=deliver, args=(message, output), daemon=True)
        for message in asked["messages"]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os._exit(0)


if __name__ == "__main__":
    main()
