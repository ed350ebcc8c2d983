"""`oversight load`: what a person reads of it, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from landings import GOOD, HEADER, SPEND, TOTALS, Shop
from terminals import on_pipe, on_terminal

from runner.cli import main
from runner.landing.errors import LandingError
from runner.landing.ledger import LoadReport
from runner.landing.load import load_engine
from warehouse.declared import Catalogue
from warehouse.settings import Settings


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
    assert "shop: spend_1.csv 0 %\n" in result.stderr


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


def test_a_terminal_gets_a_bar_and_standard_output_only_the_result(shop: Shop) -> None:
    write(shop, "spend.csv", GOOD)
    done = on_terminal("load", "--path", str(shop.folder))
    assert done.status == 0
    assert "━" in done.terminal
    assert "spend.csv" in done.terminal
    assert done.output.startswith("shop: batch 1\n")
    assert "\x1b" not in done.output


def test_a_pipe_gets_lines_without_control_characters(shop: Shop) -> None:
    write(shop, "spend.csv", GOOD)
    done = on_pipe("load", "--path", str(shop.folder))
    assert done.stderr == "shop: spend.csv 0 %\n"
    assert "\x1b" not in done.stdout


class TestJson:
    def test_it_says_what_became_of_every_record(self, shop: Shop) -> None:
        write(shop, "spend_1.csv", GOOD, "b,2026-01-01,x,1,")
        write(shop, "other.csv", GOOD)
        result = load(shop, "--json")
        assert result.exit_code == 1
        answer = json.loads(result.stdout)
        assert answer["is_clean"] is False
        (engine,) = answer["engines"]
        assert engine["files"] == [
            {
                "file_name": "spend_1.csv",
                "source_table": "spend",
                "read": 2,
                "accepted": 1,
                "rejected": 1,
                "closed": 0,
                "unchanged": 0,
                "undeclared_columns": [],
            }
        ]
        (row,) = shop.query("select engine, batch_id, status, report from metadata.batches")
        assert (engine["engine"], engine["batch_id"], engine["status"]) == row[:3]
        assert {name: engine[name] for name in row[3]} == row[3]

    def test_a_rejected_batch_is_in_it_and_nothing_new_too(self, shop: Shop) -> None:
        write(shop, "spend.csv")
        rejected = load(shop, "--json")
        assert rejected.exit_code == 1
        (engine,) = json.loads(rejected.stdout)["engines"]
        assert engine["status"] == "rejected"
        assert "it holds no records" in engine["error"]
        write(shop, "spend.csv", GOOD)
        load(shop)
        nothing = json.loads(load(shop, "--json").stdout)
        assert nothing["is_clean"] is True
        assert nothing["engines"][0]["batch_id"] is None
        assert nothing["engines"][0]["skipped"] == {"spend.csv": 3}

    def test_an_error_names_what_had_landed_before_it(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(shop, "spend.csv", GOOD)
        (shop.folder / "zoo").mkdir()
        folders = {"shop": shop.folder / "shop", "zoo": shop.folder / "zoo"}
        monkeypatch.setattr("runner.landing.load.engine_folders", lambda *_: folders)

        def load_or_fail(
            settings: Settings, catalogue: Catalogue, engine: str, *a: Any, **k: Any
        ) -> LoadReport:
            if engine == "zoo":
                raise LandingError("the database gave up")
            return load_engine(settings, catalogue, engine, *a, **k)

        monkeypatch.setattr("runner.landing.load.load_engine", load_or_fail)
        result = load(shop, "--json")
        assert result.exit_code == 1
        answer = json.loads(result.stdout)
        assert answer["error"] == "the database gave up"
        assert [engine["batch_id"] for engine in answer["engines"]] == [1]
