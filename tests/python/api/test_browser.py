"""The pages as a person meets them, in headless Chromium: phone and desktop, light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_warehouse import ApiWarehouse
from browsers import DESKTOP, PHONE, Scheme, Visit, chromium, find_chromium, picture_name, visit
from playwright.sync_api import Browser, expect
from server_process import ServerProcess

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")
LOOKS: list[tuple[tuple[int, int], Scheme]] = [
    (DESKTOP, "light"),
    (DESKTOP, "dark"),
    (PHONE, "light"),
    (PHONE, "dark"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM is not None
    with chromium(PROGRAM) as started:
        yield started


@pytest.fixture(scope="module")
def base(filled: ApiWarehouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("browsed")
    server = ServerProcess(filled, folder / "log", OVERSIGHT_HOME=str(folder))
    server.wait_until_ready()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


@pytest.fixture(scope="module")
def key(filled: ApiWarehouse) -> str:
    return filled.key("visitor", role="operator", organization=["*"])


def assert_quiet(visitor: Visit) -> None:
    assert visitor.complaints == []
    assert visitor.elsewhere() == []


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_login_and_status_on_every_screen(
    browser: Browser, base: str, key: str, size: tuple[int, int], scheme: Scheme
) -> None:
    with visit(browser, base, size=size, scheme=scheme) as visitor:
        visitor.go("/")
        expect(visitor.page).to_have_url(f"{base}/login?next=/")
        assert visitor.barriers() == []
        assert not visitor.is_too_wide()
        visitor.shoot(picture_name("login", size, scheme))
        visitor.log_in(key)
        expect(visitor.page).to_have_url(f"{base}/")
        for heading in ("Alerts", "Marts", "Lag against the SLA", "Parity with the engines",
                        "Backfills in progress", "Runs", "Latency of the API"):  # fmt: skip
            expect(visitor.page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
        expect(visitor.page.get_by_role("img", name="daily_metrics: longest wait")).to_have_count(2)
        visitor.shoot(picture_name("status", size, scheme))
        marts = visitor.page.get_by_role("group", name="Marts")
        if size == PHONE:
            assert marts.evaluate("at => at.scrollWidth <= at.clientWidth"), "all is in sight"
        assert visitor.barriers() == []
        assert not visitor.is_too_wide()
        for summary in visitor.page.locator("summary").all():
            summary.click()
        assert visitor.barriers() == []
        assert not visitor.is_too_wide()
        assert len(visitor.addresses) > 3
        assert_quiet(visitor)


def test_dark_and_light_are_what_the_visitor_asks_for(browser: Browser, base: str) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        with visit(browser, base, scheme="dark" if scheme == "dark" else "light") as visitor:
            visitor.go("/login")
            color = visitor.page.evaluate("getComputedStyle(document.body).backgroundColor")
            grounds.append(sum(map(int, re.findall(r"\d+", color))))
    assert grounds[0] > 600 > 150 > grounds[1]


def test_a_refused_key_is_told_to_eye_and_ear(browser: Browser, base: str) -> None:
    with visit(browser, base, size=PHONE) as visitor:
        visitor.go("/login")
        visitor.log_in("ov_" + "A" * 43)
        expect(visitor.page.get_by_role("alert")).to_contain_text("unknown, expired or revoked")
        field = visitor.page.get_by_label("API key")
        expect(field).to_have_accessible_description(re.compile("unknown, expired or revoked"))
        expect(field).to_have_value("")
        assert visitor.barriers() == []
        visitor.shoot("login-refused")
        assert visitor.elsewhere() == []


def test_all_of_it_works_by_keyboard(browser: Browser, base: str, key: str) -> None:
    with visit(browser, base) as visitor:
        page = visitor.page
        visitor.go("/login?next=/")
        for _ in range(3):
            page.keyboard.press("Tab")
        expect(page.get_by_label("API key")).to_be_focused()
        page.keyboard.type(key)
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{base}/")
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the content")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        seen = walk(visitor)
        for name in ("Load again", "daily_metrics", "Why run"):
            assert any(name in text for text in seen), name
        assert any(text.startswith("group") for text in seen), "wide tables can be scrolled"
        page.locator("summary").first.focus()
        page.keyboard.press("Enter")
        expect(page.locator("details").first).to_have_attribute("open", "")
        page.get_by_role("button", name="Log out").focus()
        page.keyboard.press("Enter")
        expect(page).to_have_url(f"{base}/login")
        visitor.go("/")
        expect(page).to_have_url(f"{base}/login?next=/")
        assert_quiet(visitor)


def walk(visitor: Visit) -> list[str]:
    """Tab to the end; everything that takes the focus shows it."""
    seen: list[str] = []
    for _ in range(200):
        visitor.page.keyboard.press("Tab")
        text, outline, is_body = visitor.page.evaluate(
            """() => {
                const at = document.activeElement, style = getComputedStyle(at);
                const name = at.getAttribute('role') || at.tagName.toLowerCase();
                return [name + ' ' + at.textContent.trim().slice(0, 60), style.outlineStyle,
                        at === document.body];
            }"""
        )
        if is_body:
            break
        assert outline != "none", f"the focus on {text!r} can't be seen"
        seen.append(text)
    return seen


def test_docs_show_the_description_and_try_it_with_the_login(
    browser: Browser, base: str, key: str
) -> None:
    with visit(browser, base, size=PHONE, scheme="dark") as visitor:
        page = visitor.page
        visitor.go("/docs")
        visitor.log_in(key)
        expect(page).to_have_url(f"{base}/docs")
        operation = page.locator("#operations-marts-get_daily_metrics")
        expect(operation).to_be_visible()
        visitor.shoot(picture_name("docs", PHONE, "dark"))
        operation.get_by_role("button").first.click()
        with page.expect_response(re.compile("daily-metrics")) as answered:
            operation.get_by_role("button", name="Execute").click()
        assert answered.value.status == 200
        assert "authorization" not in answered.value.request.headers
        expect(
            operation.locator(".live-responses-table .response-col_status").last
        ).to_contain_text("200")
        assert visitor.barriers(without="#reference") == []
        assert not visitor.is_too_wide()
        assert_quiet(visitor)


def test_docs_try_it_with_a_key(
    filled: ApiWarehouse, browser: Browser, base: str, key: str
) -> None:
    other = filled.key("tried", organization=["alpha"])
    with visit(browser, base) as visitor:
        page = visitor.page
        visitor.go("/docs")
        visitor.log_in(key)
        page.get_by_role("button", name="Authorize").first.click()
        dialog = page.locator(".modal-ux")
        dialog.locator("input").first.fill(other)
        dialog.get_by_role("button", name="Apply credentials").first.click()
        dialog.get_by_role("button", name="Close").last.click()
        operation = page.locator("#operations-marts-get_daily_metrics")
        operation.get_by_role("button").first.click()
        visitor.shoot(picture_name("docs", DESKTOP, "light"))
        with page.expect_response(re.compile("daily-metrics")) as answered:
            operation.get_by_role("button", name="Execute").click()
        assert answered.value.request.headers["authorization"] == f"Bearer {other}"
        assert answered.value.status == 200
        assert_quiet(visitor)
