"""A page is read by the index on the grain, however large the mart."""

from datetime import date

import psycopg2
import pytest
from api_warehouse import CATALOGUE, ApiWarehouse, make_warehouse
from werkzeug.datastructures import MultiDict

from api.access.auth import Principal
from api.database.prepared import Prepared
from api.reporting import query
from api.reporting.deployed import Served
from api.reporting.paging import Position
from clusters import Cluster
from warehouse.settings import Settings

FIRST, LAST = date(2026, 8, 1), date(2026, 8, 30)


@pytest.fixture
def large(server: Cluster, any_warehouse: Settings) -> ApiWarehouse:
    """100,000 rows of ten organizations, on 18 and on 15."""
    warehouse = make_warehouse(server, any_warehouse)
    warehouse.run(
        "truncate reporting.daily_metrics;"
        " insert into reporting.daily_metrics"
        " select 'o' || o, date '2026-01-01' + d, 'p:' || p, 1, 1 from generate_series(0, 9) as o,"
        " generate_series(0, 249) as d, generate_series(0, 39) as p;"
        " analyze reporting.daily_metrics"
    )
    return warehouse


@pytest.mark.parametrize("plan", ["custom", "generic"])
def test_every_page_is_read_by_the_index(large: ApiWarehouse, plan: str) -> None:
    position = Position(first=FIRST, last=LAST, after=("o3", "2026-08-20", "p:7"))
    window = {"from": FIRST.isoformat(), "to": LAST.isoformat()}
    for organizations, arguments, after, bounds in (
        (("o3",), window, None, ("organization_id", "day")),
        (("o3",), {}, None, ("organization_id", "day")),
        (("o3",), window | {"partner_id": "p:7"}, None, ("organization_id", "day", "partner_id")),
        (("o3",), {}, position, ("ROW(organization_id, day, partner_id) >", "day")),
        (("o3", "o4"), window, None, ("organization_id = ANY", "day")),
    ):
        lines = plan_of(large, organizations, arguments, after, plan)
        (line,) = [item for item in lines if "Index Cond" in item and "day" in item]
        assert all(bound in line for bound in bounds), lines
        assert not [item for item in lines if "Seq Scan on daily_metrics" in item], lines


def plan_of(
    warehouse: ApiWarehouse,
    organizations: tuple[str, ...],
    arguments: dict[str, str],
    after: Position | None,
    plan: str,
) -> list[str]:
    """The plan of a read's last statement, after the statements before it."""
    served = Served.of(CATALOGUE, "").mart("daily-metrics")
    scope = {"organization": organizations, "partner": ("*",)}
    principal = Principal(id="plan", name="plan", role="reader", scope=scope, expires_at=None)
    request = served.parameters.request(MultiDict(arguments))
    call = query.message(served, request, principal, after, timeout_ms=10_000)
    connection = psycopg2.connect(str(warehouse.settings.api_database_url))
    connection.autocommit = True
    try:
        with connection.cursor() as cursor, Prepared().sending(call, connection) as text:
            cursor.execute(f"set plan_cache_mode = force_{plan}_plan")
            assert text.count("\nexecute ov_") == 1
            cursor.execute(text.replace("\nexecute ov_", "\nexplain (costs off) execute ov_"))
            return [row[0] for row in cursor.fetchall()]
    finally:
        connection.close()
