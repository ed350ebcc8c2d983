"""`--json`: what a command did as one JSON object on standard output, for other programs.

Standard output then holds that object and nothing else, errors included: they are
`{"error": "..."}` there, with what was done before it, and the exit status is not 0.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

_WANTED = "oversight.json"
_DONE = "oversight.done"


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object, errors too, and nothing else to standard output.",
)


def remember(context: click.Context, arguments: Sequence[str]) -> None:
    """Note whether JSON is wanted before anything can go wrong with the arguments."""
    context.meta[_WANTED] = "--json" in arguments


def wants_json(context: click.Context) -> bool:
    """Whether the command that runs was asked for JSON."""
    return bool(context.meta.get(_WANTED))


def note_done(**content: object) -> None:
    """What an error's object is to hold too; lists given here may still grow."""
    click.get_current_context().meta[_DONE] = content


def print_error(context: click.Context, message: str) -> None:
    """The object of a command that failed."""
    print_json({"error": message, **context.meta.get(_DONE, {})})


def print_json(content: object) -> None:
    """Dataclasses as objects, times in UTC and ending in Z, decimals as strings."""
    click.echo(json.dumps(content, default=_plain, ensure_ascii=False))


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (Decimal, Path)):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
