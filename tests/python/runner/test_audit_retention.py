"""The audit trail: nobody changes it, and what is older than declared goes by retention alone."""

from __future__ import annotations

from pathlib import Path

import psycopg2
import pytest
from raw_history import execute, fill

from runner.upkeep.retention import retire
from warehouse.settings import Settings

CALLS = """
    insert into metadata.audit_log
        (call_id, called_at, principal_id, principal_name, role, method, path, request_id, status,
            outcome)
    select gen_random_uuid(), now() - d * interval '1 day', '1', 'somebody', 'admin', 'POST',
        '/api/admin/backfills', 'r' || d, 202, 'accepted'
    from unnest(array[400, 91, 89, 0]) as d
"""
ROLES = (
    None, "oversight_owner", "oversight_admin", "oversight_api", "oversight_reader",
    "oversight_loader", "oversight_raw", "oversight_analyst", "oversight_retention",
)  # fmt: skip


STATEMENTS = (
    "update metadata.audit_log set status = 200",
    "update metadata.audit_log set status = 200 where false",
    "delete from metadata.audit_log",
    "truncate metadata.audit_log",
    "set oversight.retention = 'on'; delete from metadata.audit_log",
    "merge into metadata.audit_log as a using (select 1) as b on true when matched then delete",
    "alter table metadata.audit_log disable trigger all",
    "drop table metadata.audit_log",
)
NO_MORE = (
    CALLS,  # It would say when it was called.
    "select * from metadata.audit_log",
    "insert into metadata.job_requests (kind) values ('nightly')",
    "update metadata.job_requests set status = 'done'",
    "update metadata.backfills set max_weeks = 1000",
    "delete from metadata.backfill_weeks",
    "select metadata.request_job('nightly', '{}', 'k', 'f', 'me', 'pending')",
    "select metadata.make_backfill(1, 'x', '2026-01-05', '2026-01-05', 1, 1)",
    "select metadata.retire_rows(1)",
    "select * from metadata.principals",
    "select * from staging.rejected_rows",
    "set role oversight_owner",
)


def test_calls_of_90_days_ago_are_exported_and_go(any_warehouse: Settings, tmp_path: Path) -> None:
    settings = fill(any_warehouse, tmp_path / "home", CALLS)
    (done,) = (item for item in retire(settings) if item.table == "metadata.audit_log")
    assert (done.reason, done.rows, done.is_deleted) == ("age", 2, True)
    assert done.file is not None
    assert done.file.is_file()
    left = execute(settings, "select request_id from metadata.audit_log order by audit_id")
    assert left == [("r89",), ("r0",)]
    assert retire(settings) == []


def test_nobody_changes_it(any_warehouse: Settings) -> None:
    """Not the superuser who owns it either; retention's own role deletes and does nothing else."""
    execute(any_warehouse, CALLS)
    everything = "select a::text from metadata.audit_log as a order by audit_id"
    before = execute(any_warehouse, everything)
    for role in ROLES:
        for statement in STATEMENTS:
            if role is None and statement.startswith(("alter", "drop")):
                continue  # Who owns a table may do away with it; README says so.
            if role == "oversight_retention" and "delete" in statement:
                continue
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                execute(any_warehouse, statement, role=role)
    assert len(before) == 4
    assert execute(any_warehouse, everything) == before


def test_the_refusal_of_a_change_speaks_of_newer_versions_for_raw_tables_alone(
    warehouse: Settings,
) -> None:
    for table, hint in (
        ("metadata.audit_log", "Old rows go by `oversight retire`."),
        ("staging.rejected_rows", "Land a corrected or withdrawn version of a record instead;"),
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege) as refused:
            execute(warehouse, f"truncate {table}")
        assert str(refused.value.diag.message_hint).startswith(hint)


def test_only_the_administrator_of_the_api_adds_to_it_and_does_no_more(
    warehouse: Settings,
) -> None:
    for role in ROLES[1:]:
        if role != "oversight_admin":
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                execute(
                    warehouse, CALLS.replace("now() - d * interval '1 day'", "now()"), role=role
                )
    for statement in NO_MORE:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            execute(
                warehouse,
                f"set session authorization oversight_api; set role oversight_admin; {statement}",
            )


def test_the_api_itself_may_not_ask_for_anything(warehouse: Settings) -> None:
    for statement in (
        "select metadata.pause_backfill(1)",
        "select metadata.request_pulls('{a}', 'k', 'f', 'me')",
        "select * from metadata.backfills",
    ):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            execute(warehouse, f"set session authorization oversight_api; {statement}")
