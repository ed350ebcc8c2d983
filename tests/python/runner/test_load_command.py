"""`oversight load`: what a person reads of it, and its exit status."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from landings import GOOD, HEADER, SPEND, TOTALS, Shop

from runner.cli import main
from warehouse.declared import Catalogue
from warehouse.settings import Settings

_MAIN = "from runner.cli import main; main()"


@pytest.fixture
def shop(warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The engine's catalogue is deployed, and the environment reaches its warehouse."""
    catalogue = Catalogue(sources=(SPEND, TOTALS), feeds=(), marts=())
    shop = Shop(settings=warehouse, folder=tmp_path / "extracts")
    shop.query(
        "insert into metadata.catalogue (content_hash, content) values (%s, %s)",
        (catalogue.content_hash, catalogue.to_json()),
    )
    monkeypatch.setenv("OVERSIGHT_DATABASE_URL", str(warehouse.database_url))
    (shop.folder / "shop").mkdir(parents=True)
    return shop


def write(shop: Shop, name: str, *records: str) -> None:
    (shop.folder / "shop" / name).write_text("\n".join([HEADER, *records, ""]))


def load(shop: Shop, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["load", "--path", str(shop.folder), *arguments])


def test_a_load_says_what_became_of_every_record(shop: Shop) -> None:
    write(shop, "spend_1.csv", GOOD, "b,2026-01-01,x,1,")
    write(shop, "other.csv", GOOD)
    result = load(shop)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-4:] == [
        "shop: batch 1",
        "  spend_1.csv -> spend: 2 read = 1 accepted + 1 rejected + 0 unchanged",
        "  ignored, no table declares them: other.csv",
        "  1 records are in staging.rejected_rows (batch_id = 1) with every reason",
    ]
    assert "shop: reading spend_1.csv\n" in result.stderr


def test_all_landed_and_nothing_new_end_with_0(shop: Shop) -> None:
    write(shop, "spend.csv", GOOD)
    assert load(shop, "shop").exit_code == 0
    result = load(shop)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-2:] == [
        "shop: nothing new",
        "  spend.csv: skipped, it landed in batch 1",
    ]
    again = load(shop, "--again")
    assert "1 read = 0 accepted + 0 rejected + 1 unchanged" in again.stdout


def test_the_engines_own_folder_may_be_named(shop: Shop) -> None:
    write(shop, "spend.csv", GOOD)
    result = CliRunner().invoke(main, ["load", "shop", "--path", str(shop.folder / "shop")])
    assert result.exit_code == 0


def test_a_rejected_batch_ends_with_1_and_says_why(shop: Shop) -> None:
    write(shop, "spend.csv")
    result = load(shop)
    assert result.exit_code == 1
    assert " is rejected, nothing changed:" in result.stderr
    assert "it holds no records" in result.stderr
    assert load(shop, "--allow-void").exit_code == 0


def test_an_engine_that_is_not_declared_lands_nothing(shop: Shop) -> None:
    write(shop, "spend.csv", GOOD)
    (shop.folder / "zoo").mkdir()
    result = load(shop)
    assert result.exit_code == 1
    assert "no engine of the name zoo is declared (declared are: shop)" in result.stderr
    assert shop.query("select to_regclass('staging.shop__spend')") == [(None,)]


def test_a_terminal_gets_a_bar(shop: Shop) -> None:
    write(shop, "spend.csv", GOOD)
    parent, child = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-c", _MAIN, "load", "--path", str(shop.folder)],
        stderr=child,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm"},
        cwd=Path(__file__).resolve().parents[3],
    )
    os.close(child)
    seen = b""
    while True:
        try:
            piece = os.read(parent, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(parent)
    assert done.wait(timeout=30) == 0
    assert "━".encode() in seen
    assert b"spend.csv" in seen
