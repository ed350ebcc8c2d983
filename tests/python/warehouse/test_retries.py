"""What is tried again: a database that is away or busy, and no mistake of a person's."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import make_dsn

from clusters import Cluster
from warehouse.database import admin_dsn, connect
from warehouse.errors import DatabaseUnreachableError, OversightError
from warehouse.retries import is_transient, is_transient_message, retrying
from warehouse.settings import Settings

TO = 'connection to server at "10.0.0.1", port 5432 failed'
PASSING = [
    f"{TO}: Connection refused\n\tIs the server running on that host?",
    f"{TO}: FATAL:  the database system is starting up",
    f"{TO}: FATAL:  sorry, too many clients already",
    f"{TO}: server closed the connection unexpectedly",
]
LASTING = [
    f'{TO}: FATAL:  password authentication failed for user "oversight"',
    f'{TO}: FATAL:  Peer authentication failed for user "oversight"',
    f'{TO}: FATAL:  database "nowhere" does not exist',
    f'{TO}: FATAL:  role "nobody" does not exist',
    f'{TO}: FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "a", database "b", SSL off',
    f"{TO}: fe_sendauth: no password supplied",
    f'{TO}: FATAL:  role "oversight" is not permitted to log in',
]


@pytest.mark.parametrize(
    ("text", "is_passing"),
    [*((text, True) for text in PASSING), *((text, False) for text in LASTING)],
)
def test_a_connection_that_fails_is_tried_again_unless_the_login_is_refused(
    text: str, is_passing: bool
) -> None:
    assert is_transient_message(text) is is_passing
    assert is_transient(psycopg2.OperationalError(text)) is is_passing
    assert is_transient(DatabaseUnreachableError(f"can't reach the database: {text}; hint")) is (
        is_passing
    )
    wrapped = DatabaseUnreachableError("can't reach the database")
    wrapped.__cause__ = psycopg2.OperationalError(text)
    assert is_transient(wrapped) is is_passing


@pytest.mark.parametrize(
    "error",
    [errors.DeadlockDetected(), errors.SerializationFailure(), errors.LockNotAvailable(),
     psycopg2.InterfaceError("connection already closed")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_another_session_stood_in_the_way_of_is_tried_again(error: psycopg2.Error) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "text",
    [
        "deadlock detected",
        "could not serialize access due to concurrent update",
        "canceling statement due to lock timeout",
        "terminating connection due to administrator command",
    ],
)
def test_dbts_text_of_the_same_is_tried_again(text: str) -> None:
    assert is_transient_message(f"daily_metrics: Database Error in model daily_metrics\n  {text}")


def test_a_session_that_an_administrator_ended_is_tried_again(warehouse: Settings) -> None:
    connection, other = (connect(warehouse, autocommit=True) for _ in "12")
    with other.cursor() as cursor:
        cursor.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))
    with pytest.raises(psycopg2.Error) as raised, connection.cursor() as cursor:
        cursor.execute("select 1")
    assert is_transient(raised.value)
    connection.close()
    other.close()


@pytest.mark.parametrize("statement", ["select 1 / 0", "select * from nowhere", "selec"])
def test_a_mistake_in_a_statement_is_not(warehouse: Settings, statement: str) -> None:
    connection = connect(warehouse, autocommit=True)
    with pytest.raises(psycopg2.Error) as raised, connection.cursor() as cursor:
        cursor.execute(statement)
    assert not is_transient(raised.value)
    assert not is_transient_message(f"m: Database Error in model m\n  {raised.value}")
    connection.close()


@pytest.mark.parametrize("part", [{"dbname": "nowhere"}, {"user": "nobody"}], ids=["db", "login"])
def test_a_server_that_refuses_for_good_is_asked_once(
    server: Cluster, part: dict[str, str]
) -> None:
    wrong = replace(server.settings, database_url=make_dsn(admin_dsn(server.settings), **part))
    asked: list[Settings] = []

    def ask() -> None:
        asked.append(wrong)
        connect(wrong)

    with pytest.raises(DatabaseUnreachableError, match="does not exist"):
        retrying(seconds=20)(ask)
    assert len(asked) == 1


def test_a_server_that_is_not_there_is_asked_again() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dsn = f"postgresql://a@127.0.0.1:{unused.getsockname()[1]}/b"
        with pytest.raises(psycopg2.OperationalError) as raised:
            psycopg2.connect(dsn)
    assert is_transient(raised.value)


def test_another_error_is_not() -> None:
    assert not is_transient(OversightError("could not connect"))
    assert not is_transient(ValueError("deadlock detected"))


def test_data_that_nobody_acknowledges_ends_a_connection(tmp_path: Path) -> None:
    """What the kernel is told of the socket; the server here only listens."""
    told: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        settings = Settings(
            project_dir=tmp_path, home=tmp_path, database_url=f"postgresql://a@127.0.0.1:{port}/b"
        )

        def attempt() -> None:
            with contextlib.suppress(DatabaseUnreachableError):
                connect(settings)

        connecting = threading.Thread(target=attempt)
        connecting.start()
        server_side, _ = listener.accept()
        for link in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                client = socket.socket(fileno=os.dup(int(link.name)))
                with client:
                    if client.getpeername() == ("127.0.0.1", port):
                        told.append(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
        server_side.close()
        connecting.join(30)
    assert told == [30_000]
