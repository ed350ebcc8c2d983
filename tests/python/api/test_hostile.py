"""Requests that mean harm get an answer that tells them nothing; `make soak` sends ten thousand."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator

import pytest
from attacked import Attacked, live, make_attacked, over_socket, over_sockets
from hostile import FOREIGN, Sent
from judging import Answer, dump, judge, report
from server_process import ServerProcess

from clusters import Cluster

SEED = int(os.environ.get("HOSTILE_SEED", "4"))
IN_PROCESS, OVER_SOCKETS = 1080, 420


@pytest.fixture(scope="module")
def attacked(server18: Cluster) -> Iterator[Attacked]:
    """A warehouse of two organizations."""
    made = make_attacked(server18)
    yield made
    server18.drop_database(Cluster.name_of(made.warehouse.settings))


@pytest.fixture(scope="module")
def server(attacked: Attacked, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A live server of it."""
    with live(attacked, tmp_path_factory.mktemp("attacked") / "log") as serving:
        yield serving


def test_through_the_app(attacked: Attacked) -> None:
    drawn = attacked.hostile(SEED).draw(IN_PROCESS)
    found: list[tuple[Sent, Answer | None]] = [(sent, attacked.ask(sent)) for sent in drawn]
    report(found)
    statuses = {answer.status for _, answer in found if answer}
    assert {200, 400, 401, 403, 404, 405} <= statuses, "each kind of answer was met"
    assert [a for s, a in found if a and a.status == 200 and s.kind == "foreign"], (
        "and rows asked for"
    )


def test_over_sockets(attacked: Attacked, server: ServerProcess) -> None:
    drawn = attacked.hostile(SEED + 1).draw(OVER_SOCKETS)
    workers = server.children()
    found = list(zip(drawn, over_sockets(server.port, drawn), strict=True))
    report(found)
    unanswered = [sent for sent, answer in found if answer is None]
    assert all(sent.kind in ("header", "path", "encoding") for sent in unanswered), (
        "only what is no HTTP ends without an answer: " + "\n".join(map(dump, unanswered))
    )
    assert server.children() == workers, "no worker died"
    assert '"defect"' not in server.log.read_text()


def test_what_is_no_http_is_refused_and_costs_nothing(
    attacked: Attacked, server: ServerProcess
) -> None:
    key = attacked.keys[0].encode()
    head = b"GET /api/reporting/v1/marts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key
    broken = [
        b"", b"\r\n" * 100, b"\0" * 500, os.urandom(2000),
        b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        head + b"\r\nX: a\0b\r\n\r\n", head + b"\r\n folded\r\n\r\n", head + b"\r\nX : y\r\n\r\n",
        head + b"\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"
        b"GET /metrics HTTP/1.1\r\n\r\n",
        head + b"\r\nContent-Length: -1\r\n\r\n", head + b"\r\nContent-Length: 1, 2\r\n\r\n",
        head + b"\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n\r\n",
        head + b"".join(b"\r\nX-%d: y" % number for number in range(5000)) + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(500),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(200),
    ]  # fmt: skip
    for wire in broken:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            try:
                connection.sendall(wire)
                connection.shutdown(socket.SHUT_WR)
                told = connection.recv(1 << 16)
            except OSError:  # It has ended the connection already.
                continue
        status = int(told[9:12]) if told.startswith(b"HTTP/1") else 400
        assert status < 500, (wire[:100], told[:300])
        assert b"Traceback" not in told
    assert server.get("/health/ready")[0] == 200


def test_callers_that_never_finish_their_request_hold_nobody_up(
    attacked: Attacked, server: ServerProcess
) -> None:
    idle = []
    try:
        for number in range(200):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            connection.sendall(
                b"GET /api/reporting/v1/marts HTTP/1.1\r\nHost: x\r\n"[: 20 + number % 30]
            )
            idle.append(connection)
        for _ in range(20):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            connection.sendall(
                b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
                b"Content-Type: application/x-www-form-urlencoded\r\n\r\nkey="
            )
            idle.append(connection)
        for number in range(20):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            connection.sendall(
                b"POST /api/admin/backfills HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
                b"Content-Type: application/json\r\nIdempotency-Key: %d\r\n"
                b"Authorization: Bearer %s\r\n\r\n{" % (number, attacked.admin.encode())
            )
            idle.append(connection)
        time.sleep(0.5)
        begun = time.perf_counter()
        for _ in range(20):
            status, body = server.get("/api/reporting/v1/daily-metrics", attacked.keys[0])
            assert (status, bool(body["data"])) == (200, True)
        sys.stdout.write(
            f"20 reads beside 240 unfinished requests: {time.perf_counter() - begun:.2f} s\n"
        )
    finally:
        for connection in idle:
            connection.close()


def test_the_judge_sees_what_it_is_there_to_see() -> None:
    sent = Sent(kind="sql", method=b"GET", target=b"/api/x")
    good = Answer(status=200, body=b"{}", seconds=0.1)
    assert judge(sent, good) == []
    for answer in (
        Answer(status=500, body=b"", seconds=0.1),
        Answer(status=200, body=FOREIGN.encode(), seconds=0.1),
        Answer(status=200, body=b'{"clicks":77665544332211}', seconds=0.1),
        Answer(status=400, body=b"Traceback (most recent call last)", seconds=0.1),
        Answer(status=200, body=b"", headers=(("X-Injected", "yes"),), seconds=0.1),
        Answer(status=400, body=b"<p>", headers=(("Content-Type", "text/html"),), seconds=0.1),
        Answer(status=200, body=b"", seconds=10),
    ):
        assert judge(sent, answer), answer


def test_bytes_reach_the_app_as_they_were_sent(attacked: Attacked, server: ServerProcess) -> None:
    """What is judged above is what came in: the server does not clean it."""
    for text, status in ((b"%00", 400), (b"%EF%BF%BD", 400), (b"reddit_ads%3A1", 200)):
        key = attacked.keys[0].encode()
        answer = over_socket(
            server.port,
            b"GET /api/reporting/v1/daily-metrics?partner_id=%s HTTP/1.1\r\nHost: x\r\n"
            b"Authorization: Bearer %s\r\nConnection: close\r\n\r\n" % (text, key),
        )
        assert answer is not None
        assert answer.status == status


def test_a_body_that_comes_in_pieces_is_whole(attacked: Attacked, server: ServerProcess) -> None:
    body = b'{"engine":"nobody"}'
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(
            b"POST /api/admin/etl/pull-reporting HTTP/1.1\r\nHost: x\r\n"
            b"Idempotency-Key: pieces-1\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n"
            b"Authorization: Bearer %s\r\n\r\n" % (len(body), attacked.admin.encode())
        )
        for number in range(len(body)):
            time.sleep(0.01)
            connection.sendall(body[number : number + 1])
        told = connection.recv(1 << 16)
    assert told.startswith(b"HTTP/1.1 422"), told
    assert b"nobody can't be pulled" in told
