"""Callers that are remembered: for how long, and what ends it."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from api.access import auth
from api.access.auth import Authenticator
from api.access.rates import Failures
from api.access.sessions import LoginCookies
from api.database.pool import Pool, Row
from api.problems import ProblemError, unavailable
from warehouse.declared import Role

KEY, OTHER = "ov_" + "A" * 43, "ov_" + "B" * 43
ROW: Row = ("00000000-0000-0000-0000-000000000001", "caller", "reader", "standard",
            '{"organization": ["alpha"]}', None)  # fmt: skip


class Database:
    """Stands for the pool: what it answers, and how often it was asked."""

    def __init__(self) -> None:
        self.row: Row | None = ROW
        self.problem: ProblemError | None = None
        self.asked = 0
        self.is_heard = False

    def read(self, *_arguments: Any, **_named: Any) -> Row | None:
        self.asked += 1
        if self.problem is not None:
            raise self.problem
        return self.row


class Clock:
    """Stands for `time.monotonic`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(auth, "time", made)
    return made


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def authenticator(database: Database) -> Authenticator:
    """Remembers for 4 seconds, and for a minute while the database is away."""
    return Authenticator(
        cast(Pool, database),
        roles=lambda: {"reader": Role(name="reader", description="Reads.")},
        cookies=LoginCookies("k" * 40),
        sessions=None,
        failures=Failures(100),
        remember_seconds=4,
        away_seconds=60,
        hears=lambda: database.is_heard,
    )


def status(authenticator: Authenticator, key: str = KEY) -> int:
    try:
        return 200 if authenticator.principal(f"Bearer {key}").name == "caller" else 0
    except ProblemError as problem:
        return problem.status


def test_a_caller_is_asked_about_once_in_four_seconds(
    authenticator: Authenticator, database: Database, clock: Clock
) -> None:
    for now, asked in ((1000.0, 1), (1003.9, 1), (1004.1, 2), (1008.0, 2), (1008.2, 3)):
        clock.now = now
        assert status(authenticator) == 200
        assert database.asked == asked, now


def test_while_the_database_is_away_only_known_callers_are_known(
    authenticator: Authenticator, database: Database, clock: Clock
) -> None:
    assert status(authenticator) == 200
    database.problem = unavailable("database-unavailable", "away", retry_after_seconds=5)
    for now in (1005.0, 1030.0, 1059.0):
        clock.now = now
        assert (status(authenticator), status(authenticator, OTHER)) == (200, 503)
    clock.now = 1061.0
    assert status(authenticator) == 503
    database.problem = None
    assert status(authenticator) == 200


def test_what_was_told_of_before_the_database_went_is_not_known(
    authenticator: Authenticator, database: Database
) -> None:
    assert status(authenticator) == 200
    authenticator.forget()
    database.problem = unavailable("database-unavailable", "away", retry_after_seconds=5)
    assert status(authenticator) == 503


def test_a_pool_that_is_busy_lets_callers_stay_only_where_a_revocation_would_be_heard_of(
    authenticator: Authenticator, database: Database, clock: Clock
) -> None:
    assert status(authenticator) == 200
    clock.now = 1005.0
    database.problem = unavailable("busy", "busy", retry_after_seconds=1)
    assert status(authenticator) == 503
    database.is_heard = True
    assert status(authenticator) == 200


@pytest.mark.parametrize("code", ["timeout", "nothing-deployed"])
def test_a_database_that_answers_something_else_is_not_away(
    authenticator: Authenticator, database: Database, clock: Clock, code: str
) -> None:
    assert status(authenticator) == 200
    clock.now = 1005.0
    database.problem = unavailable(code, "no", retry_after_seconds=1)
    assert status(authenticator) == 503
    database.is_heard = True
    assert status(authenticator) == (200 if code == "timeout" else 503)


def test_a_look_up_that_was_under_way_when_it_was_told_does_not_count(
    authenticator: Authenticator, database: Database
) -> None:
    is_looking, may_go = threading.Event(), threading.Event()
    read = database.read

    def slow(*arguments: Any, **named: Any) -> Row | None:
        row = read(*arguments, **named)
        is_looking.set()
        assert may_go.wait(30)
        return row

    database.read = slow  # type: ignore[method-assign]
    looking = threading.Thread(target=status, args=(authenticator,))
    looking.start()
    assert is_looking.wait(30)
    database.row = None
    authenticator.forget()
    may_go.set()
    looking.join()
    assert status(authenticator) == 401


def test_memory_of_callers_is_bounded(
    authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_CALLERS", 10)
    for number in range(30):
        assert status(authenticator, f"ov_{number:043}") == 200
    assert len(authenticator._remembered) == 10
