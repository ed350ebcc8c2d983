"""The login cookie: it stands for a key, for reads alone, and ends with the key."""

from __future__ import annotations

import hashlib

import pytest
from api_warehouse import SIGNING_KEY, ApiWarehouse
from flask.testing import FlaskClient
from itsdangerous import URLSafeTimedSerializer
from werkzeug.test import TestResponse

from api.access import sessions
from api.access.sessions import COOKIE, LoginCookies
from api.app import create_app
from api.problems import ProblemError
from api.state import EXTENSION, Limits, State
from warehouse import database
from warehouse.keys import revoke_key

PATH = "/api/reporting/v1/marts"


@pytest.fixture
def forgetful(read_only: ApiWarehouse) -> FlaskClient:
    """A client of an app that remembers no caller."""
    app = create_app(read_only.settings, limits=Limits(remember_keys_seconds=0))
    return app.test_client(use_cookies=False)


def cookie_of(key: str, signing_key: str = SIGNING_KEY) -> str:
    return LoginCookies(signing_key).issue(hashlib.sha256(key.encode()).hexdigest())


def ask(client: FlaskClient, cookie: str, method: str = "GET", **headers: str) -> TestResponse:
    """One request with the cookie alone, or with headers beside it."""
    sent = {"Cookie": f"other=1; {COOKIE}={cookie}", **headers}
    return client.open(PATH, method=method, headers=sent)


def test_it_reads_what_its_key_may_read(read_only: ApiWarehouse, forgetful: FlaskClient) -> None:
    key = read_only.key("cookie", organization=["alpha"])
    state: State = forgetful.application.extensions[EXTENSION]
    value = state.authenticator.log_in(key, address="")
    assert ask(forgetful, value).status_code == 200
    assert ask(forgetful, value, "HEAD").status_code == 200
    assert ask(forgetful, value, Authorization="Bearer x").status_code == 401
    assert key not in value
    assert key[3:] not in value


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_it_changes_nothing(read_only: ApiWarehouse, forgetful: FlaskClient, method: str) -> None:
    key = read_only.key(f"cookie {method}", organization=["alpha"])
    assert ask(forgetful, cookie_of(key), method).status_code == 401


def test_it_ends_with_its_key(read_only: ApiWarehouse, forgetful: FlaskClient) -> None:
    value = cookie_of(read_only.key("cookie to revoke", organization=["alpha"]))
    assert ask(forgetful, value).status_code == 200
    connection = database.connect(read_only.settings, autocommit=True)
    revoke_key(connection, "cookie to revoke")
    connection.close()
    assert ask(forgetful, value).status_code == 401


def test_it_ends_after_its_time(
    read_only: ApiWarehouse, forgetful: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = cookie_of(read_only.key("cookie of long ago", organization=["alpha"]))
    assert sessions.COOKIE_SECONDS == 12 * 3600
    monkeypatch.setattr(sessions, "COOKIE_SECONDS", -1)
    assert ask(forgetful, value).status_code == 401


def test_one_that_is_cut_altered_or_of_another_making_is_refused(
    read_only: ApiWarehouse, forgetful: FlaskClient
) -> None:
    key = read_only.key("cookie to alter", organization=["alpha"])
    value = cookie_of(key)
    digest = hashlib.sha256(key.encode()).hexdigest()
    other_salt = URLSafeTimedSerializer(
        SIGNING_KEY, salt="oversight.page", signer_kwargs={"digest_method": hashlib.sha256}
    )
    bad = [value[:-1], value[1:], "", "a.b.c", cookie_of(key, "another-key-" * 4), digest, key]
    bad += [str(other_salt.dumps(digest)), LoginCookies(SIGNING_KEY).issue("no digest")]
    bad += [
        f"{value[:at]}{'A' if value[at] != 'A' else 'B'}{value[at + 1 :]}" for at in (0, 40, 90)
    ]
    assert [ask(forgetful, item).status_code for item in bad] == [401] * len(bad)


def test_nobody_logs_in_with_what_is_no_key(forgetful: FlaskClient) -> None:
    state: State = forgetful.application.extensions[EXTENSION]
    for key in ("", "x", "ov_" + "A" * 43, "\u00e9"):
        with pytest.raises(ProblemError, match="unknown, expired or revoked"):
            state.authenticator.log_in(key, address="")
