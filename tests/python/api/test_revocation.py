"""What is revoked ends within 5 seconds in every process of a real server."""

from __future__ import annotations

import hashlib
import http.client
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from api_warehouse import SIGNING_KEY, ApiWarehouse
from server_process import ServerProcess
from tokens import AUDIENCE, ISSUER, SECRET, token

from api.access.sessions import COOKIE, LoginCookies
from warehouse import database
from warehouse.keys import revoke_key, revoke_session

BOUND_SECONDS = 5
PATHS = {"key": "marts", "session": "metadata/refresh", "cookie": "daily-metrics"}
"""Each kind of credential asks another route, so that the log tells them apart."""


@pytest.fixture
def served(own: ApiWarehouse, tmp_path: Path) -> Iterator[ServerProcess]:
    """Two workers that take sessions too."""
    server = ServerProcess(
        own,
        tmp_path / "log",
        OVERSIGHT_HOME=str(tmp_path),
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


def ask(server: ServerProcess, kind: str, headers: Mapping[str, str]) -> int:
    """A request on a connection of its own, so that any worker may get it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", f"/api/reporting/v1/{PATHS[kind]}", headers=dict(headers))
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def knowing(server: ServerProcess) -> dict[str, set[int]]:
    """Which processes have answered which kind of credential."""
    found = defaultdict(set)
    for line in server.requests():
        for kind, path in PATHS.items():
            if line["path"].endswith(path) and line["status"] == 200:
                found[kind].add(line["process"])
    return found


@pytest.mark.parametrize("is_told", [True, False], ids=["told", "not told"])
def test_keys_sessions_and_cookies_end_in_both_workers(
    own: ApiWarehouse, served: ServerProcess, is_told: bool
) -> None:
    if not is_told:
        for table in ("principals", "revoked_sessions"):
            own.run(f"alter table metadata.{table} disable trigger user")
    key = own.key("to end", organization=["alpha"])
    cookie = LoginCookies(SIGNING_KEY).issue(hashlib.sha256(key.encode()).hexdigest())
    credentials = {
        "key": {"Authorization": f"Bearer {key}"},
        "session": {"Authorization": f"Bearer {token(jti='to-end')}"},
        "cookie": {"Cookie": f"{COOKIE}={cookie}"},
    }
    kinds = [*credentials] * 20
    deadline = time.monotonic() + 30
    while any(len(knowing(served)[kind]) < 2 for kind in credentials):
        assert time.monotonic() < deadline, "not every worker was asked"
        with ThreadPoolExecutor(16) as threads:
            assert set(threads.map(lambda k: ask(served, k, credentials[k]), kinds)) == {200}

    connection = database.connect(own.settings, autocommit=True)
    revoke_key(connection, "to end")
    revoke_session(connection, "to-end")
    connection.close()
    revoked = time.monotonic()
    last = dict.fromkeys(credentials, 0.0)
    refused = dict.fromkeys(credentials, 0)
    # Each is asked until it was refused 40 times in a row, which both workers take part in.
    while min(refused.values()) < 40:
        for kind, headers in credentials.items():
            asked = time.monotonic() - revoked
            if ask(served, kind, headers) == 401:
                refused[kind] += 1
            else:
                last[kind], refused[kind] = asked, 0
        assert time.monotonic() - revoked < 3 * BOUND_SECONDS, last
    sys.stdout.write(f"last answer after the revocation, in seconds: {last}\n")
    assert max(last.values()) < (1 if is_told else BOUND_SECONDS) * 3
