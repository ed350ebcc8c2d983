"""What may be declared about retention and closed days, and what an error says."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import copy_project, edit

from warehouse.catalogue import read_catalogue
from warehouse.declared import Catalogue, CatalogueError

DAY = 86400
NOTHING_CLOSED = "  closed_before:\n"
KEPT = "  retention: {refresh_log: 400d, audit_log: 90d}\n"


def declare(
    folder: Path, *, project: tuple[str, str] | None = None, landing: str = ""
) -> Catalogue:
    copied = copy_project(folder)
    if project is not None:
        edit(copied, "dbt_project.yml", *project)
    if landing:
        file = "models/staging/oversight/_oversight__sources.yml"
        edit(copied, file, "        landing:\n", f"        landing:\n          {landing}\n")
    return read_catalogue(copied)


def test_retention_and_closed_days_are_in_the_catalogue(tmp_path: Path) -> None:
    catalogue = declare(
        tmp_path,
        project=(NOTHING_CLOSED, "  closed_before: 2026-10-12\n"),
        landing="retention: {superseded: 90d, closed_days: true}",
    )
    assert catalogue.closed_before == "2026-10-12"
    assert catalogue.retention == {"audit_log": 90 * DAY, "refresh_log": 400 * DAY}
    spend = catalogue.source("oversight", "spend")
    assert (spend.superseded_kept_seconds, spend.may_retire_closed_days) == (90 * DAY, True)
    partners = catalogue.source("oversight", "partners")
    assert not partners.may_retire_closed_days, "a table without a date has no closed days"
    reports = catalogue.source("snapchat", "ad_hourly_report")
    assert (reports.superseded_kept_seconds, reports.may_retire_closed_days) == (None, False)
    assert Catalogue.from_json(catalogue.to_json()) == catalogue


def test_nothing_is_closed_unless_it_is_declared(tmp_path: Path) -> None:
    assert declare(tmp_path).closed_before is None


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ("2026-10-14", "2026-10-14 must be a Monday, .*; 2026-10-12 is one"),
        ("2099-01-05", "2099-01-05 is still to come"),
        ("yesterday", "must be a day, such as"),
    ],
)
def test_a_closing_that_can_not_be_is_named(tmp_path: Path, new: str, says: str) -> None:
    with pytest.raises(CatalogueError, match=rf"dbt_project.yml:\d+: vars.closed_before: {says}"):
        declare(tmp_path, project=(NOTHING_CLOSED, f"  closed_before: {new}\n"))


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ("{refresh_logs: 400d}", "no retention for a table .*did you mean 'refresh_log'"),
        ("{job_requests: 90d}", "no retention for a table of this name"),
        ("{refresh_log: 400}", "must be a duration, such as 400d"),
        ("400d", "retention maps tables to durations"),
    ],
)
def test_a_retention_that_can_not_be_is_named(tmp_path: Path, new: str, says: str) -> None:
    with pytest.raises(CatalogueError, match=says):
        declare(tmp_path, project=(KEPT, f"  retention: {new}\n"))


@pytest.mark.parametrize(
    "landing", ["retention: {superseeded: 90d}", "retention: {superseded: soon}", "retention: {}"]
)
def test_a_sources_retention_that_can_not_be_is_named(tmp_path: Path, landing: str) -> None:
    with pytest.raises(CatalogueError, match=r"_oversight__sources.yml:\d+: .*retention"):
        declare(tmp_path, landing=landing)


@pytest.mark.parametrize("is_retired", [True, False])
def test_a_fact_without_days_can_not_stand_on_a_source_whose_closed_days_go(
    tmp_path: Path, is_retired: bool
) -> None:
    copied = copy_project(tmp_path)
    edit(
        copied,
        "models/curated/_curated__models.yml",
        "fact: {feed: spend, keys: [partner_id, campaign_id, day]}",
        "fact: {feed: spend, keys: [partner_id, campaign_id]}",
    )
    if is_retired:
        edit(
            copied,
            "models/staging/oversight/_oversight__sources.yml",
            "        landing:\n",
            "        landing:\n          retention: {closed_days: true}\n",
        )
    with pytest.raises(CatalogueError) as refused:
        read_catalogue(copied)
    says = "`day` must be among the keys, since closed days of oversight.spend are retired"
    assert (says in str(refused.value)) == is_retired
