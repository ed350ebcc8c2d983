"""A warehouse to be attacked: what is not the attacker's has marks, and both ways in are here."""

from __future__ import annotations

import contextlib
import http.client
import io
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import jwt
from api_warehouse import ApiWarehouse, json_of, make_warehouse
from flask import Flask
from hostile import FOREIGN, FOREIGN_FIGURE, Hostile, Sent
from judging import Answer
from server_process import ServerProcess

from api.app import create_app
from clusters import Cluster
from warehouse.settings import SessionSettings

SECRET = "a-secret-of-an-identity-provider-that-only-tests-have-and-nobody-else"
ISSUER, AUDIENCE = "https://login.example", "oversight"
WAIT_SECONDS = 15


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """The warehouse, an app of this process, and what the attacker holds."""

    warehouse: ApiWarehouse
    app: Flask
    keys: list[str]
    tokens: list[str]
    admin: str

    def hostile(self, seed: int) -> Hostile:
        """The attacker."""
        return Hostile(seed=seed, keys=self.keys, tokens=self.tokens, admin=self.admin)

    def ask(self, sent: Sent) -> Answer:
        """Through WSGI, as a server hands a request on."""
        path, _, query = sent.target.partition(b"?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": sent.method.decode("latin-1"),
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
            "REMOTE_ADDR": f"10.{random.randrange(256)}.{random.randrange(256)}.1",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_LENGTH": str(len(sent.body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(sent.body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        for name, value in sent.headers:
            key = name.decode("latin-1").upper().replace("-", "_")
            key = key if key == "CONTENT_TYPE" else f"HTTP_{key}"
            text = value.decode("latin-1")
            environ[key] = f"{environ[key]},{text}" if key in environ else text
        started: list[Any] = []

        def start(status: str, fields: Any, _: Any = None) -> Any:
            started[:] = [status, fields]

        begun = time.perf_counter()
        chunks = self.app.wsgi_app(environ, start)
        body = b"".join(chunks)
        if close := getattr(chunks, "close", None):
            close()
        return Answer(
            status=int(started[0][:3]),
            headers=tuple(started[1]),
            body=body,
            seconds=time.perf_counter() - begun,
        )


def make_attacked(cluster: Cluster) -> Attacked:
    """Two organizations; the second has a partner and figures that nobody else has."""
    warehouse = make_warehouse(cluster, cluster.migrated_database())
    warehouse.run(
        "insert into reporting.daily_metrics"
        f" select 'beta', day::date, '{FOREIGN}', {FOREIGN_FIGURE}, {FOREIGN_FIGURE}"
        " from generate_series(date '2026-09-01', '2026-10-30', '1 day') as day;"
        "insert into reporting.weekly_partner_performance"
        f" select 'beta', day::date, '{FOREIGN}', {FOREIGN_FIGURE}"
        " from generate_series(date '2026-08-31', '2026-10-26', '7 days') as day;"
        "insert into metadata.parity_verdicts"
        " (organization_id, mart, partner_id, period, metric, verdict)"
        f" values ('beta', 'daily_metrics', '{FOREIGN}', '2026-10-01', 'spend', 'failed')"
    )
    settings = replace(
        warehouse.settings,
        sessions=SessionSettings(issuer=ISSUER, audience=AUDIENCE, secret=SECRET),
        log_share=0.0,
    )
    attacked = ApiWarehouse(settings=settings)
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "attacker", "jti": "1", "iat": now - 10,
              "exp": now + 7200, "role": "reader", "tier": "enterprise",
              "scope": {"organization": ["alpha"], "partner": ["*"]}}  # fmt: skip
    keys = [warehouse.key("attacker", organization=["alpha"]), jwt.encode(claims, SECRET, "HS256")]
    tokens = []
    for key in keys:
        client = attacked.client(key)
        for size in (3, 50):
            tokens.append(json_of(client.get("daily-metrics", page_size=size))["next_page"])
    return Attacked(
        warehouse=attacked,
        app=create_app(settings),
        keys=keys,
        tokens=tokens,
        admin=warehouse.key("administrator", role="admin", organization=["*"]),
    )


@contextlib.contextmanager
def live(attacked: Attacked, log: Path) -> Iterator[ServerProcess]:
    """A server of the same warehouse, which logs errors alone."""
    server = ServerProcess(
        attacked.warehouse,
        log,
        OVERSIGHT_LOG_SAMPLE="0",
        OVERSIGHT_HOME=str(log.parent / "home"),
        OVERSIGHT_JWT_SECRET=SECRET,
        OVERSIGHT_JWT_ISSUER=ISSUER,
        OVERSIGHT_JWT_AUDIENCE=AUDIENCE,
    )
    try:
        server.wait_until_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def over_socket(port: int, wire: bytes, method: str = "GET") -> Answer | None:
    """The answer to bytes as they are; None when the server ends the connection without one."""
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(wire)
        response = http.client.HTTPResponse(connection, method=method)
        try:
            response.begin()
            body = response.read()
        except (http.client.HTTPException, ConnectionResetError):
            return None
    return Answer(
        status=response.status,
        headers=tuple(response.getheaders()),
        body=body,
        seconds=time.perf_counter() - begun,
    )


def over_sockets(port: int, sent: list[Sent]) -> list[Answer | None]:
    """The answers to many requests, eight at a time."""

    def one(item: Sent) -> Answer | None:
        return over_socket(port, item.wire(), item.method.decode("latin-1"))

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(one, sent))
