"""A refresh of a thousand changed records among a million scans no raw table, fact or mart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from built import BuiltWarehouse

from clusters import Cluster

HISTORY = 1_000_000
CHANGED = 1_000
BIG = {
    "staging.oversight__spend",
    "staging.oversight__events",
    "curated.fact_spend",
    "curated.fact_events",
    "reporting.daily_metrics",
}
_BATCH = """
    with batch as (
        insert into metadata.batches (engine, status, path) values ('oversight', 'landed', 'test')
        returning batch_id
    )
    insert into metadata.batch_tables
        (batch_id, engine, source_table, organization_id, accepted, extracted_through)
    select batch_id, 'oversight', source_table, 'acme', {records}, now()
    from batch cross join (values ('spend'), ('events')) as tables (source_table)
"""
_RECORDS = """
    insert into staging.oversight__{table} (
        organization_id, record_key, batch_id, record_version, extracted_at, content_hash,
        {table_id}, occurred_at, partner_id, campaign_id, {measures}, updated_at
    )
    select
        'acme', 'acme|' || i, (select max(batch_id) from metadata.batches), {version}, now(),
        gen_random_uuid(), i::text, timestamptz '2024-01-01' + (i % 1000) * interval '1 day',
        'p' || (i / 1000 % 200), 'c' || (i / 1000 % 600), {values}, now()
    from generate_series(1, {last}, {step}) as i
"""
_TABLES = {
    "spend": ("spend_id", "spend_amount, clicks, impressions, currency", "i % 100, 1, 2, 'USD'"),
    "events": ("event_id", "event_type, event_count, amount", "'revenue', 1, i % 100 + {version}"),
}


@pytest.fixture(scope="module")
def warehouse(server18: Cluster) -> Iterator[BuiltWarehouse]:
    """A million spend records and as many events, refreshed."""
    made = BuiltWarehouse(server18, "plans")
    made.renew()
    land(made, step=1, version=0)
    made.refresh("--full-refresh")
    made.rows("analyze staging.oversight__spend, staging.oversight__events")
    yield made
    made.close()


def land(warehouse: BuiltWarehouse, *, step: int, version: int) -> None:
    """Records as landing leaves them, made by the server itself: landing is tested elsewhere."""
    warehouse.rows(_BATCH.format(records=HISTORY // step))
    for table, (table_id, measures, values) in _TABLES.items():
        warehouse.rows(
            _RECORDS.format(
                table=table,
                table_id=table_id,
                measures=measures,
                last=HISTORY,
                step=step,
                version=version,
                values=values.format(version=version),
            )
        )


def scans(warehouse: BuiltWarehouse) -> dict[str, int]:
    """Sequential scans so far, by table."""
    return {
        name: int(count)
        for name, count in warehouse.rows(
            "select schemaname || '.' || relname, seq_scan from pg_stat_user_tables"
        )
        if name in BIG
    }


def test_a_refresh_reads_by_index_alone(warehouse: BuiltWarehouse) -> None:
    assert warehouse.rows("select count(*) from curated.fact_spend") == [(HISTORY,)]
    ((before_sum,),) = warehouse.rows("select sum(revenue) from reporting.daily_metrics")
    land(warehouse, step=HISTORY // CHANGED, version=1)
    before = scans(warehouse)
    assert before.keys() == BIG
    warehouse.refresh()
    after = scans(warehouse)
    ((after_sum,),) = warehouse.rows("select sum(revenue) from reporting.daily_metrics")
    assert after_sum == before_sum + CHANGED, "the refresh did not take the change"
    assert {name: after[name] - before[name] for name in BIG} == dict.fromkeys(BIG, 0)


def test_the_counter_would_have_told(warehouse: BuiltWarehouse) -> None:
    before = scans(warehouse)
    warehouse.rows("select sum(amount + 0) from curated.fact_events")
    assert scans(warehouse)["curated.fact_events"] > before["curated.fact_events"]
