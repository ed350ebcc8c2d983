"""What no answer to a request that means harm may be."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field

from hostile import FOREIGN, FOREIGN_FIGURE, Sent

LONGEST_SECONDS = 5.0
# Words of the inside. What a request holds itself may come back in the text of its error.
INSIDE = (
    b"Traceback", b'File "', b"site-packages", b"psycopg", b"sqlalchemy", b"werkzeug", b"structlog",
    b"granian", b"oversight_reader", b"oversight_api", b"metadata.principals", b"syntax error",
    b"set local", b"relation \"", b"column \"", b"LINE 1", b"object at 0x", b"<title>4",
    b"<title>5",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back, and after how long."""

    status: int
    headers: tuple[tuple[str, str], ...] = field(default=())
    body: bytes
    seconds: float


def judge(sent: Sent, answer: Answer) -> list[str]:
    """What is wrong with an answer; nothing, for a good one."""
    wrong = []
    told = answer.body + repr(answer.headers).encode()
    if answer.status >= 500:
        wrong.append(f"status {answer.status}")
    wrong += [f"tells {word!r}" for word in INSIDE if word in answer.body and not sent.holds(word)]
    if FOREIGN_FIGURE.encode() in told:
        wrong.append("a foreign row")
    if FOREIGN.encode() in told and not sent.holds(FOREIGN.encode()):
        wrong.append("a foreign id")
    if any(name.lower() == "x-injected" for name, _ in answer.headers):
        wrong.append("an injected header")
    kinds = [value for name, value in answer.headers if name.lower() == "content-type"]
    is_page = kinds == ["text/html; charset=utf-8"] and b"/api/" not in sent.target
    if (
        answer.status >= 400
        and answer.body
        and kinds != ["application/problem+json"]
        and not is_page
    ):
        wrong.append(f"an error of the type {kinds}")
    if answer.seconds > LONGEST_SECONDS:
        wrong.append(f"{answer.seconds:.1f} seconds")
    return wrong


def report(found: list[tuple[Sent, Answer | None]]) -> None:
    """Fails with the first of what is wrong, and prints what was answered."""
    wrong = [
        (why, sent, answer)
        for sent, answer in found
        if answer is not None
        for why in judge(sent, answer)
    ]
    statuses = Counter((sent.kind, answer.status if answer else 0) for sent, answer in found)
    slowest = max((answer.seconds for _, answer in found if answer), default=0)
    sys.stdout.write(
        f"{len(found)} requests, the slowest {slowest:.2f} s: {dict(sorted(statuses.items()))}\n"
    )
    told = "\n".join(
        f"{why}: {dump(sent)}\n -> {answer.status} {answer.body[:300]!r}"
        for why, sent, answer in wrong[:10]
    )
    assert not wrong, f"{len(wrong)} of {len(found)}:\n{told}"


def dump(sent: Sent) -> str:
    """A request for the text of a failure."""
    shown = {"kind": sent.kind, "method": str(sent.method), "target": str(sent.target[:300])}
    return json.dumps(shown | {"headers": str(sent.headers)[:600], "body": str(sent.body[:100])})
