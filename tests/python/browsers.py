"""Debian's Chromium, driven by Playwright; it can reach this machine alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from clusters import PROJECT_DIR

SCREENSHOTS = PROJECT_DIR / "build" / "screenshots"
DESKTOP, PHONE = (1280, 900), (360, 740)
Scheme = Literal["light", "dark"]


def find_chromium() -> str | None:
    """The program of Debian's package; Playwright's own would have to be downloaded."""
    return shutil.which("chromium")


@contextmanager
def chromium(program: str) -> Iterator[Browser]:
    """A headless Chromium that resolves no name."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        yield browser
        browser.close()


@dataclass
class Visit:
    """One visitor with a page, and what the browser noticed."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        """Open a page and wait until it asks for nothing more."""
        self.page.goto(f"{self.base}{path}")
        self.page.wait_for_load_state("networkidle")

    def log_in(self, key: str) -> None:
        """Fill in the form of /login, where the browser is."""
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_load_state("networkidle")

    def elsewhere(self) -> list[str]:
        """What was asked of other hosts."""
        here = (f"{self.base}/", "data:", "blob:")
        return [address for address in self.addresses if not address.startswith(here)]

    def shoot(self, name: str) -> None:
        """Keep the whole page as a picture."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    def is_too_wide(self) -> bool:
        """Whether the page as a whole must be scrolled sideways."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))

    def barriers(self, *, without: str | None = None) -> list[str]:
        """What axe finds against WCAG and good practice, outside a part that is not ours."""
        context = {"exclude": [[without]]} if without else None
        found = Axe().run(self.page, context=context).response["violations"]
        return [
            f"{item['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
            for item in found
            for node in item["nodes"]
        ]


@contextmanager
def visit(
    browser: Browser, base: str, *, size: tuple[int, int] = DESKTOP, scheme: Scheme = "light"
) -> Iterator[Visit]:
    """A visitor without cookies."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
    )
    made = Visit(context.new_page(), base)

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            made.complaints.append(message.text)

    made.page.on("console", note)
    made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
    context.on("request", lambda request: made.addresses.append(request.url))
    yield made
    context.close()


def picture_name(part: str, size: tuple[int, int], scheme: Scheme) -> str:
    """The name of a screenshot without its ending."""
    return f"{part}-{scheme}-{size[0]}"


def pictures() -> list[Path]:
    """What was kept."""
    return sorted(SCREENSHOTS.glob("*.png"))
