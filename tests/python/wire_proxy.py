"""A proxy before PostgreSQL's socket that counts what the client sends, and can be cut off."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from pathlib import Path
from types import TracebackType

_STARTUP_LENGTH = struct.Struct("!I")
_HEADER = struct.Struct("!cI")
SOCKET_NAME = ".s.PGSQL.5432"


class WireProxy:
    """Listens in `folder` and forwards to the server's socket in `server_folder`."""

    def __init__(self, folder: Path, server_folder: Path) -> None:
        self.messages: list[bytes] = []
        """The type of every message after the start of a session, as the protocol names it."""
        self.texts: list[str] = []
        """The text of every simple query."""
        self.folder = folder
        self._path = folder / SOCKET_NAME
        self._server = str(server_folder / SOCKET_NAME)
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()

    def __enter__(self) -> WireProxy:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cut_off()

    def start(self) -> None:
        """Accept connections."""
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut_off(self) -> None:
        """End all connections and accept no more, as a server that went away."""
        if self._listener is not None:
            # shutdown wakes the thread that waits in accept; close alone leaves it there.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self._path.unlink(missing_ok=True)
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
            self._open |= {client, server}
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answers, args=(server, client), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        try:
            (length,) = _STARTUP_LENGTH.unpack(head := _exactly(client, 4))
            server.sendall(head + _exactly(client, length - 4))
            while True:
                kind, length = _HEADER.unpack(head := _exactly(client, 5))
                body = _exactly(client, length - 4)
                self.messages.append(kind)
                if kind == b"Q":
                    self.texts.append(body.rstrip(b"\0").decode())
                server.sendall(head + body)
        except OSError:
            self._end(client, server)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while part := server.recv(65536):
                client.sendall(part)
        except OSError:
            pass
        self._end(client, server)

    def _end(self, *ends: socket.socket) -> None:
        for end in ends:
            self._open.discard(end)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _exactly(source: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = source.recv(size - len(parts))
        if not part:
            raise ConnectionResetError
        parts += part
    return parts
