"""A caller who takes nothing loses the connection, in a server of its own."""

import socket
import time

import pytest

from api.front import stalled


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux alone has it")
def test_who_takes_nothing_is_disconnected_and_who_takes_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stalled, "STALLED_SECONDS", 2)
    with socket.socket() as listener, socket.socket() as idle, socket.socket() as busy:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert stalled.bind_listeners() >= 1
        answers = []
        for caller in (idle, busy):
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.connect(listener.getsockname())
            answers.append(listener.accept()[0])
        started = time.monotonic()
        with pytest.raises(OSError, match="timed out"):
            while time.monotonic() - started < 3 * stalled.STALLED_SECONDS + 2:
                answers[0].sendall(bytes(65536))
        assert time.monotonic() - started > stalled.STALLED_SECONDS
        answers[1].sendall(b"still here")
        assert busy.recv(100) == b"still here"
        for answer in answers:
            answer.close()
