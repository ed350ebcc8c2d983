"""Every route and every credential: who gets in, what refuses writes, what hostile headers do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from api_warehouse import SIGNING_KEY, ApiWarehouse
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokens import AUDIENCE, ISSUER, SECRET, token
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from api.access.sessions import COOKIE, LoginCookies
from api.app import create_app
from api.state import EXTENSION, PREFIX, Limits, State
from warehouse.settings import SessionSettings

OPEN = {"/health/live", "/health/ready", "/static/<path:filename>", "/login"}
PARTS = {
    "<path:mart_path>": "daily-metrics",
    "<path:filename>": "page.css",
    "<name>": "swagger-ui.css",
    "<id:pull_id>": "1",
    "<id:backfill_id>": "1",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
WRITES = ("POST", "PUT", "PATCH", "DELETE")


def filled_in(rule: str) -> str:
    for part, value in PARTS.items():
        rule = rule.replace(part, value)
    return rule


@dataclass(frozen=True)
class Doors:
    """An app, and the headers of a reader by each kind of credential, good and bad."""

    client: FlaskClient
    good: Mapping[str, Mapping[str, str]]
    bad: Mapping[str, Mapping[str, str]]

    def ask(self, method: str, path: str, headers: Mapping[str, str]) -> TestResponse:
        return self.client.open(path, method=method, headers=dict(headers), buffered=True)

    def rules(self) -> list[Rule]:
        return list(self.client.application.url_map.iter_rules())


@pytest.fixture(scope="module")
def doors(read_only: ApiWarehouse) -> Doors:
    """Of an app that takes keys, sessions and cookies, and never tires of strangers."""
    sessions = SessionSettings(issuer=ISSUER, audience=AUDIENCE, secret=SECRET)
    app = create_app(
        replace(read_only.settings, sessions=sessions), limits=Limits(refusals_per_minute=10**9)
    )
    state: State = app.extensions[EXTENSION]
    key = read_only.key("all doors", organization=["alpha"])
    cookie = state.authenticator.log_in(key, address="")
    nobody = LoginCookies(SIGNING_KEY).issue(hashlib.sha256(b"nobody").hexdigest())
    return Doors(
        client=app.test_client(use_cookies=False),
        good={
            "key": {"Authorization": f"Bearer {key}"},
            "session": {"Authorization": f"Bearer {token()}"},
            "cookie": {"Cookie": f"{COOKIE}={cookie}"},
        },
        bad={
            "nothing": {},
            "key": {"Authorization": f"Bearer {key[:-1]}"},
            "key in another place": {"X-Api-Key": key, "Cookie": f"{COOKIE}={key}"},
            "session": {"Authorization": f"Bearer {token()[:-2]}"},
            "cookie": {"Cookie": f"{COOKIE}={cookie[:-2]}"},
            "cookie of nobody": {"Cookie": f"{COOKIE}={nobody}"},
        },
    )


def test_every_route_but_the_open_ones_demands_a_credential_that_holds(doors: Doors) -> None:
    asked = 0
    for rule in doors.rules():
        if rule.rule in {*OPEN, "/logout"}:
            continue
        path = filled_in(rule.rule)
        for method in METHODS:
            for kind, headers in doors.bad.items():
                assert doors.ask(method, path, headers).status_code == 401, (method, path, kind)
                asked += 1
            if method not in ("GET", "HEAD"):
                answer = doors.ask(method, path, doors.good["cookie"])
                assert answer.status_code == 401, f"{method} {path} takes a cookie"
        for kind, headers in doors.good.items():
            status = doors.ask("GET", path, headers).status_code
            if kind == "cookie" and path.startswith("/api/admin/"):
                assert status in (401, 405), path
            else:
                assert status not in (401, 500), (path, kind)
    assert asked > 500


def test_every_reporting_route_refuses_writes(doors: Doors) -> None:
    reporting = [rule for rule in doors.rules() if rule.rule.startswith(PREFIX)]
    assert len(reporting) >= 3
    for rule in reporting:
        assert rule.methods is not None
        assert not set(WRITES) & rule.methods, rule.rule
        for method in WRITES:
            for kind in ("key", "session"):
                answer = doors.ask(method, filled_in(rule.rule), doors.good[kind])
                assert answer.status_code == 405, (method, rule.rule, kind)
                assert set(answer.headers["Allow"].split(", ")) <= {"GET", "HEAD"}


def test_a_reader_is_refused_by_every_admin_route(doors: Doors) -> None:
    routes = [rule for rule in doors.rules() if rule.rule.startswith("/api/admin/")]
    assert routes
    for rule in routes:
        for method in sorted((rule.methods or set()) - {"OPTIONS"}):
            for kind in ("key", "session"):
                answer = doors.ask(method, filled_in(rule.rule), doors.good[kind])
                assert answer.status_code == 403, (method, rule.rule, kind)


TEXT = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=200)
CREDENTIALS = st.one_of(
    TEXT,
    TEXT.map("Bearer {}".format),
    st.binary(max_size=60).map(lambda part: f"Bearer ov_{part.hex()}"),
    st.lists(TEXT, min_size=2, max_size=5).map(".".join).map("Bearer {}".format),
    st.tuples(st.integers(0, 400), st.characters(max_codepoint=255, exclude_characters="\r\n\0"))
    .map(lambda at: _altered(token(jti="always"), *at)).map("Bearer {}".format),
)  # fmt: skip
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Authorization": CREDENTIALS,
        "Cookie": st.one_of(TEXT, TEXT.map(f"{COOKIE}={{}}".format)),
        "Accept": TEXT,
        "If-None-Match": TEXT,
        "X-Request-Id": TEXT,
        "Traceparent": TEXT,
        "Content-Type": TEXT,
        "Content-Length": TEXT,
        "X-Forwarded-For": TEXT,
        "Idempotency-Key": TEXT,
    },
)


def _altered(text: str, at: int, character: str) -> str:
    """One character of a token made another; the last one has bits that mean nothing."""
    at %= len(text) - 1
    return text[:at] + (character if character != text[at] else "~") + text[at + 1 :]


@settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    headers=HEADERS,
    method=st.sampled_from(METHODS),
    path=st.sampled_from(
        ["marts", "daily-metrics", "metadata/refresh", "/", "/api/admin/backfills", "/metrics"]
    ),
)
def test_no_header_is_an_error_of_ours_or_lets_a_stranger_in(
    doors: Doors, headers: Mapping[str, str], method: str, path: str
) -> None:
    url = path if path.startswith("/") else f"{PREFIX}/{path}"
    answer = doors.ask(method, url, headers)
    assert answer.status_code < 500, answer.text
    if path != "/":
        assert answer.status_code in (400, 401, 413), (answer.status_code, answer.text)
