"""`oversight docs` makes one page that a browser shows without asking any other host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from api_warehouse import ApiWarehouse, served_by
from browsers import chromium, find_chromium, visit
from click.testing import CliRunner
from compared import ComparedWarehouse
from playwright.sync_api import expect
from server_process import ServerProcess

from runner.cli import main
from runner.site import SiteError, build_site
from warehouse.settings import Settings

PROGRAM = find_chromium()


@pytest.fixture(scope="module")
def settings(built: ComparedWarehouse, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A built warehouse with a home folder that holds its docs."""
    built.renew()
    made = replace(built.settings, home=tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warehouse.settings.load_settings", lambda: made)
        done = CliRunner().invoke(main, ["docs"])
    assert done.exit_code == 0, done.output
    assert str(made.warehouse_docs_path) in done.output
    assert "http://127.0.0.1:8080/docs/warehouse" in done.output
    return made


def test_the_docs_are_one_page_with_every_model(settings: Settings) -> None:
    text = settings.warehouse_docs_path.read_text()
    for name in ("daily_metrics", "weekly_partner_performance", "fact_spend", "stg_oversight"):
        assert name in text
    assert "favicon.ico" not in text
    assert not settings.warehouse_docs_path.with_suffix(".new").exists()


def test_what_dbt_says_is_told_and_the_page_before_stays(settings: Settings) -> None:
    before = settings.warehouse_docs_path.read_bytes()
    broken = replace(settings, project_dir=settings.home)
    with pytest.raises(SiteError, match=r"dbt_project\.yml"):
        build_site(broken)
    assert settings.warehouse_docs_path.read_bytes() == before


@pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")
def test_a_browser_shows_them_and_asks_nobody_else(
    built: ComparedWarehouse, settings: Settings, tmp_path: Path
) -> None:
    assert PROGRAM is not None
    warehouse = ApiWarehouse(settings=served_by(built.cluster, settings))
    warehouse.deploy(built.catalogue)
    key = warehouse.key("docs", organization=["*"])
    server = ServerProcess(warehouse, tmp_path / "log", OVERSIGHT_HOME=str(settings.home))
    server.wait_until_ready()
    base = f"http://127.0.0.1:{server.port}"
    try:
        with chromium(PROGRAM) as browser, visit(browser, base) as visitor:
            visitor.go("/docs/warehouse")
            visitor.log_in(key)
            expect(visitor.page.get_by_role("heading", name="Welcome")).to_be_visible()
            visitor.go("/docs/warehouse#!/model/model.oversight.daily_metrics")
            expect(visitor.page.locator("h1").first).to_contain_text("daily_metrics")
            visitor.shoot("warehouse")
            assert visitor.elsewhere() == []
            refused = [text for text in visitor.complaints if "Content Security Policy" in text]
            assert refused == []
    finally:
        server.stop()
