"""Row-level security of the project: own rows only, whoever asks and whatever is rebuilt."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from built import INCREMENTAL, BuiltWarehouse
from simulated import specification

from clusters import Cluster
from runner.runs.warm_dbt import DbtResult
from runner.simulation.simulate import simulate

READS = 10_000
SCHEMAS = ("staging", "curated", "reporting", "metadata")
MARTS = ("daily_metrics", "weekly_partner_performance")


@pytest.fixture(scope="module")
def warehouse(
    server: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BuiltWarehouse]:
    """Two organizations with the same account ids, loaded and refreshed; on 18 and on 15."""
    made = BuiltWarehouse(server, f"security_{server.version}")
    made.renew()
    folder = tmp_path_factory.mktemp("extracts")
    simulate(specification(folder))
    made.load("oversight", folder / "oversight")
    made.refresh()
    yield made
    made.close()


def as_reader(warehouse: BuiltWarehouse, scopes: dict[str, str | None]) -> set[str]:
    """Organizations that the reader role sees in the daily mart with these settings."""
    connection = warehouse.cluster.connect(warehouse.name, user="oversight_api")
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("set role oversight_reader")
        for name, value in scopes.items():
            if value is not None:
                cursor.execute(
                    "select set_config(%s, %s, false)", (f"oversight.scope_{name}", value)
                )
        cursor.execute("select distinct organization_id from reporting.daily_metrics")
        return {row[0] for row in cursor.fetchall()}


def organizations(warehouse: BuiltWarehouse) -> list[str]:
    return [
        row[0]
        for row in warehouse.rows(
            "select distinct organization_id from reporting.daily_metrics order by 1"
        )
    ]


def test_two_organizations_with_the_same_account_id_stay_apart(warehouse: BuiltWarehouse) -> None:
    first, second = organizations(warehouse)
    assert warehouse.rows(
        "select count(*) > 0 from reporting.daily_metrics as a join reporting.daily_metrics as b"
        " using (day, partner_id) where a.organization_id < b.organization_id"
    ) == [(True,)]
    assert as_reader(warehouse, {"organization": f"{{{first}}}", "partner": "{*}"}) == {first}
    assert as_reader(warehouse, {"organization": f"{{{second}}}", "partner": "{*}"}) == {second}
    assert as_reader(warehouse, {"organization": "{*}", "partner": "{*}"}) == {first, second}


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "{}",
        "%s",
        "%s,%s",
        '{"%s"}',
        "{%s",
        "%s}",
        "{{%s}}",
        "{%s,}",
        "{,%s}",
        "{NULL}",
        "'%s'",
        "*",
        "{%s\\}",
        "{%s}x",
    ],
)
def test_a_scope_that_is_unset_empty_or_malformed_sees_nothing(
    warehouse: BuiltWarehouse, value: str | None
) -> None:
    organization = organizations(warehouse)[0]
    text = value and value.replace("%s", organization)
    assert as_reader(warehouse, {"organization": text, "partner": "{*}"}) == set()
    assert as_reader(warehouse, {"organization": f"{{{organization}}}", "partner": text}) == set()


def test_a_partner_scope_narrows(warehouse: BuiltWarehouse) -> None:
    ((partner,),) = warehouse.rows("select min(partner_id) from reporting.daily_metrics")
    connection = warehouse.cluster.connect(warehouse.name, user="oversight_api")
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("set role oversight_reader")
        cursor.execute("select set_config('oversight.scope_organization', '{*}', false)")
        cursor.execute(
            "select set_config('oversight.scope_partner', %s, false)", (f"{{{partner}}}",)
        )
        for mart in (*MARTS, "parity_results"):
            cursor.execute(f"select distinct partner_id from reporting.{mart}")
            assert cursor.fetchall() == [(partner,)], mart


def test_every_table_of_the_four_schemas_has_it_with_a_policy(warehouse: BuiltWarehouse) -> None:
    found = warehouse.rows(
        """
        select n.nspname || '.' || c.relname, c.relrowsecurity,
            (select count(*) from pg_policy as p where p.polrelid = c.oid)
        from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = any(%s) and c.relkind in ('r', 'p', 'm', 'f')
        """,
        (list(SCHEMAS),),
    )
    assert len(found) > 50
    assert [row for row in found if not row[1] or not row[2]] == []


def test_views_give_the_reader_no_more_than_their_tables(warehouse: BuiltWarehouse) -> None:
    """A view runs with its owner's rights unless it says otherwise."""
    assert (
        warehouse.rows(
            """
            select c.oid::regclass::text from pg_class as c
            join pg_namespace as n on n.oid = c.relnamespace
            where n.nspname = any(%s) and c.relkind = 'v'
            and (has_table_privilege('oversight_reader', c.oid, 'select')
                or has_table_privilege('oversight_analyst', c.oid, 'select'))
            and not coalesce('security_invoker=true' = any(c.reloptions), false)
            """,
            (list(SCHEMAS),),
        )
        == []
    )


def test_nobody_with_direct_sql_is_a_reader(warehouse: BuiltWarehouse) -> None:
    assert warehouse.rows(
        "select r.rolname from pg_auth_members as m join pg_roles as r on r.oid = m.member"
        " where m.roleid = 'oversight_reader'::regrole and not r.rolsuper"
    ) == [("oversight_api",)]
    assert warehouse.rows(
        "select pg_has_role('oversight_analyst', 'oversight_reader', 'member')"
    ) == [(False,)]


def test_an_analyst_who_sets_the_settings_sees_nothing_more(warehouse: BuiltWarehouse) -> None:
    first, _ = organizations(warehouse)
    login = f"analyst_{warehouse.name}"
    warehouse.cluster.run(f"create role {login} login in role oversight_analyst inherit")
    try:
        warehouse.rows(
            "insert into metadata.analyst_scopes"
            " values (%s, 'organization', %s), (%s, 'partner', %s)",
            (login, [first], login, ["*"]),
        )
        connection = warehouse.cluster.connect(warehouse.name, user=login)
        with closing(connection), connection.cursor() as cursor:
            for _ in range(2):
                cursor.execute("select distinct organization_id from reporting.daily_metrics")
                assert cursor.fetchall() == [(first,)]
                cursor.execute("select distinct organization_id from reporting.parity_results")
                assert cursor.fetchall() == [(first,)]
                cursor.execute("select set_config('oversight.scope_organization', '{*}', false)")
                cursor.execute("select set_config('oversight.scope_partner', '{*}', false)")
            for statement in (
                "set role oversight_reader",
                "select * from curated.fact_spend",
                "select * from staging.oversight__spend",
                "select * from metadata.principals",
                "insert into metadata.analyst_scopes values ('x', 'organization', '{*}')",
            ):
                with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                    cursor.execute(statement)
    finally:
        warehouse.cluster.run(f"drop role {login}")


def test_it_holds_through_rebuilds_in_ten_thousand_reads(warehouse: BuiltWarehouse) -> None:
    first, _ = organizations(warehouse)
    ((expected,),) = warehouse.rows(
        "select count(*) from reporting.daily_metrics where organization_id = %s", (first,)
    )
    builds = [("run", "--select", INCREMENTAL), ("run", "--select", INCREMENTAL, "--full-refresh")]
    results: list[DbtResult] = []

    def rebuild() -> None:
        for arguments in builds * 2:
            results.append(warehouse.dbt_run(*arguments))

    rebuilding = threading.Thread(target=rebuild)
    before = oid_of_mart(warehouse)
    rebuilding.start()
    seen: set[Any] = set()
    reads = 0
    connection = warehouse.cluster.connect(warehouse.name, user="oversight_api")
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("set role oversight_reader")
        cursor.execute(
            "select set_config('oversight.scope_organization', %s, false)", (f"{{{first}}}",)
        )
        cursor.execute("select set_config('oversight.scope_partner', '{*}', false)")
        while reads < READS or rebuilding.is_alive():
            cursor.execute(
                "select count(*), count(*) filter (where organization_id <> %s)"
                " from reporting.daily_metrics",
                (first,),
            )
            seen.add(cursor.fetchone())
            reads += 1
    rebuilding.join()
    assert [result.success for result in results] == [True] * 4, results[-1].output
    assert oid_of_mart(warehouse) != before, "no rebuild replaced the mart"
    assert seen == {(expected, 0)}


def oid_of_mart(warehouse: BuiltWarehouse) -> int:
    return int(warehouse.rows("select 'reporting.daily_metrics'::regclass::oid::int")[0][0])
