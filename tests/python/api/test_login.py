"""Logging in with a key: the cookie, the token of the form, and where a browser is sent after."""

from __future__ import annotations

import re
from dataclasses import replace
from http.cookies import Morsel, SimpleCookie

import pytest
from api_warehouse import ApiWarehouse
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.access.sessions import COOKIE
from api.app import create_app
from api.state import Limits
from warehouse import database
from warehouse.keys import revoke_key

HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture(scope="module")
def key(read_only: ApiWarehouse) -> str:
    return read_only.key("browser", organization=["alpha"])


@pytest.fixture
def browser(read_only: ApiWarehouse) -> FlaskClient:
    return create_app(read_only.settings).test_client()


def token(text: str) -> str:
    return str(re.findall(r'name="csrf" value="([^"]+)"', text)[0])


def log_in(browser: FlaskClient, key: str, next_page: str = "/") -> TestResponse:
    form = token(browser.get("/login").text)
    return browser.post("/login", data={"key": key, "csrf": form, "next": next_page})


def cookie_of(response: TestResponse, name: str = COOKIE) -> Morsel[str] | None:
    for header in response.headers.getlist("Set-Cookie"):
        if found := SimpleCookie(header).get(name):
            return found
    return None


def test_a_browser_is_sent_to_the_form_and_comes_back(browser: FlaskClient, key: str) -> None:
    sent = browser.get("/?every=60", headers=HTML)
    assert (sent.status_code, sent.headers["Location"]) == (303, "/login?next=/%3Fevery%3D60")
    form = browser.get(sent.headers["Location"])
    assert 'name="next" value="/?every=60"' in form.text
    back = browser.post(
        "/login", data={"key": f" {key} ", "csrf": token(form.text), "next": "/?every=60"}
    )
    assert (back.status_code, back.headers["Location"]) == (303, "/?every=60")
    page = browser.get("/", headers=HTML)
    assert page.status_code == 200
    assert "browser, reader" in page.text
    assert "Log out" in page.text


def test_the_cookie_is_for_this_site_alone_and_is_not_the_key(
    browser: FlaskClient, key: str
) -> None:
    cookie = cookie_of(log_in(browser, key))
    assert cookie is not None
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    assert cookie["max-age"] == "43200"
    assert not cookie["secure"], "on plain http a browser would not send it"
    assert key not in cookie.value
    assert key[3:] not in cookie.value


def test_over_https_cookies_are_secure(read_only: ApiWarehouse, key: str) -> None:
    settings = replace(read_only.settings, api_url="https://oversight.example.com")
    browser = create_app(settings).test_client()
    form = browser.get("/login", base_url="https://localhost")
    for cookie in (
        cookie_of(form, "oversight_form"),
        cookie_of(
            browser.post(
                "/login",
                base_url="https://localhost",
                data={"key": key, "csrf": token(form.text)},
            )
        ),
    ):
        assert cookie is not None
        assert cookie["secure"]


@pytest.mark.parametrize("wrong", ["", "ov_" + "A" * 43, "nonsense", "ov_\udcff", "é" * 46])
def test_a_key_that_is_not_in_force_gets_no_cookie(browser: FlaskClient, wrong: str) -> None:
    answer = log_in(browser, wrong.encode("utf-8", "surrogateescape").decode("latin-1"))
    assert answer.status_code == 401
    assert cookie_of(answer) is None
    assert "unknown, expired or revoked" in answer.text
    assert "WWW-Authenticate" not in answer.headers, "a browser would ask for a password"


def test_a_form_of_another_site_is_refused(
    read_only: ApiWarehouse, browser: FlaskClient, key: str
) -> None:
    of_another = token(create_app(read_only.settings).test_client().get("/login").text)
    browser.get("/login")
    for forged in (None, "", "x", of_another, of_another[:-1]):
        data = {"key": key} | ({} if forged is None else {"csrf": forged})
        answer = browser.post("/login", data=data)
        assert answer.status_code == 403, forged
        assert cookie_of(answer) is None
    no_cookies = create_app(read_only.settings).test_client(use_cookies=False)
    answer = no_cookies.post("/login", data={"key": key, "csrf": of_another})
    assert answer.status_code == 403


def test_logging_out_needs_its_own_form_and_ends_the_cookie(browser: FlaskClient, key: str) -> None:
    of_login = token(browser.get("/login").text)
    log_in(browser, key)
    for forged in ("", of_login):
        assert browser.post("/logout", data={"csrf": forged}).status_code == 403
    assert browser.get("/", headers=HTML).status_code == 200
    answer = browser.post("/logout", data={"csrf": token(browser.get("/").text)})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    assert browser.get("/", headers=HTML).status_code == 303


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/%2f/evil.example", "\t//e.x",
     "javascript:alert(1)", "/docs/../\\evil", "/logout", "/api/admin/backfills", "/@evil.example",
     "/?x=\r\nSet-Cookie:a=b", "/?next=//evil.example", "/" * 5000],
)  # fmt: skip
def test_after_the_login_it_goes_to_a_page_of_ours_alone(
    browser: FlaskClient, key: str, elsewhere: str
) -> None:
    form = browser.get("/login", query_string={"next": elsewhere})
    assert 'name="next" value="/"' in form.text
    data = {"key": key, "csrf": token(form.text), "next": elsewhere[:500]}
    assert browser.post("/login", data=data).headers["Location"] == "/"


def test_what_is_asked_for_is_never_shown_as_markup(browser: FlaskClient) -> None:
    hostile = '"><script>alert(1)</script>'
    text = browser.get("/login", query_string={"next": hostile}).text
    assert "<script" not in text
    answer = log_in(browser, hostile)
    assert hostile not in answer.text


def test_programs_are_told_401_and_the_form_runs_nothing(browser: FlaskClient) -> None:
    assert browser.get("/").status_code == 401
    assert browser.get("/", headers={"Accept": "application/json"}).status_code == 401
    assert browser.get("/api/reporting/v1/marts", headers=HTML).status_code == 401
    form = browser.get("/login")
    assert form.headers["Content-Security-Policy"].startswith("default-src 'none';")
    assert form.headers["Cache-Control"] == "private, no-store"
    assert browser.post("/login", data={"key": "x" * 5000}).status_code == 413


def test_a_login_reads_what_its_key_may_and_changes_nothing(browser: FlaskClient, key: str) -> None:
    log_in(browser, key)
    assert browser.get("/api/reporting/v1/daily-metrics").status_code == 200
    assert browser.post("/api/admin/backfills", json={}).status_code == 401


def test_a_login_ends_with_its_key(own: ApiWarehouse) -> None:
    made = own.key("short", organization=["alpha"])
    browser = create_app(own.settings, limits=Limits(remember_keys_seconds=0)).test_client()
    log_in(browser, made)
    assert browser.get("/", headers=HTML).status_code == 200
    connection = database.connect(own.settings, autocommit=True)
    revoke_key(connection, "short")
    connection.close()
    assert browser.get("/", headers=HTML).status_code == 303
