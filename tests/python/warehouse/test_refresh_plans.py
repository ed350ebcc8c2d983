"""A refresh of a thousand changed records among a million scans no raw table, fact or mart."""

from __future__ import annotations

import pytest
from built import BuiltWarehouse
from compared import ComparedWarehouse

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
def warehouse(built: ComparedWarehouse) -> ComparedWarehouse:
    """A million spend records and as many events, refreshed."""
    built.renew()
    land(built, step=1, version=0)
    built.refresh("--full-refresh")
    built.rows("analyze staging.oversight__spend, staging.oversight__events")
    return built


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


_PARENTS = """
    insert into staging.snapchat__{table} (
        organization_id, record_key, batch_id, extracted_at, content_hash, id, {parent}
    )
    select
        'acme', 'acme|{prefix}' || i, (select max(batch_id) from metadata.batches),
        now() - version * interval '1 day', gen_random_uuid(), '{prefix}' || i,
        '{parent_prefix}' || i % {parents}
    from generate_series(0, {last}) as i cross join generate_series(1, 5) as version
"""
_HOURS = """
    insert into staging.snapchat__ad_hourly_report (
        organization_id, record_key, batch_id, extracted_at, content_hash, ad_id, date, spend
    )
    select
        'acme', 'acme|ad' || i % 20000 || '|' || i, (select max(batch_id) from metadata.batches),
        now(), gen_random_uuid(), 'ad' || i % 20000, timestamptz '2024-01-01', 1
    from generate_series(1, 100000) as i
"""
_LOOK_UP = """
    explain (analyze, buffers, format json)
    select partner_id, campaign_id from staging.stg_snapchat__spend
    where record_key = any(array(
        select record_key from staging.snapchat__ad_hourly_report order by row_id limit {changed}
    ))
"""


def test_the_way_through_parents_costs_by_record_not_by_history(
    warehouse: BuiltWarehouse,
) -> None:
    """A join to the parents' newest rows read 129 million blocks for this; some 13 a record do."""
    for table, prefix, last, parent, parent_prefix, parents in (
        ("ad_history", "ad", 19_999, "ad_squad_id", "squad", 5_000),
        ("ad_squad_history", "squad", 4_999, "campaign_id", "campaign", 500),
        ("campaign_history", "campaign", 499, "ad_account_id", "account", 3),
    ):
        warehouse.rows(
            _PARENTS.format(
                table=table,
                prefix=prefix,
                last=last,
                parent=parent,
                parent_prefix=parent_prefix,
                parents=parents,
            )
        )
        warehouse.rows(f"analyze staging.snapchat__{table}")
    warehouse.rows(_HOURS)
    warehouse.rows("analyze staging.snapchat__ad_hourly_report")
    (((plan,),),) = warehouse.rows(_LOOK_UP.format(changed=CHANGED))
    found = plan["Plan"]
    assert found["Actual Rows"] == CHANGED
    assert found["Shared Hit Blocks"] + found["Shared Read Blocks"] < 30 * CHANGED
    assert warehouse.rows(
        "select distinct partner_id from staging.stg_snapchat__spend order by partner_id"
    ) == [("snapchat:account0",), ("snapchat:account1",), ("snapchat:account2",)]
