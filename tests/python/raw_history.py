"""Raw rows with superseded versions, and a deployed catalogue that lets them go."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from warehouse import database
from warehouse.catalogue import _store, read_catalogue
from warehouse.raw_tables import ensure_raw_tables
from warehouse.settings import Settings

DAY = 86400
RECORDS, VERSIONS = 400, 5
SUPERSEDED = RECORDS * (VERSIONS - 1)
TABLE = "staging.oversight__spend"
# Batch 1 landed 100 days ago and is in every mart, batch 2 landed now.
FILL = f"""
    insert into metadata.batches (engine, status, path, landed_at)
        values ('oversight', 'landed', '/old', now() - interval '100 days'),
            ('oversight', 'landed', '/new', now());
    insert into metadata.applied_batches (model, batch_id)
        select model, batch_id from metadata.batches, unnest(
            array['fact_spend', 'daily_metrics', 'weekly_partner_performance']
        ) as model;
    insert into {TABLE} (organization_id, record_key, batch_id, record_version, extracted_at,
            content_hash, is_void, spend_id, spend_amount, occurred_at)
        select 'acme', 'acme|' || n, 1, v, now(), md5(n::text || v)::uuid, v = {VERSIONS} and n = 1,
            md5(n::text), n * 1.10, '2026-01-07T12:00:00Z'
        from generate_series(1, {RECORDS}) as n, generate_series(1, {VERSIONS}) as v;
    insert into {TABLE} (organization_id, record_key, batch_id, record_version, extracted_at,
            content_hash, spend_id, spend_amount, occurred_at)
        select 'acme', 'acme|new' || v, 2, v, now(), md5('new')::uuid, 'new', 1.10, now()
        from generate_series(1, 2) as v;
"""
# Of ten old runs one is mentioned by a request, one leads a young run, one still runs.
RUNS = """
    insert into metadata.refresh_log (job_name, started_at, finished_at, status)
        select 'old', now() - interval '500 days', now(), 'success' from generate_series(1, 7);
    insert into metadata.refresh_log (job_name, started_at) values
        ('running', now() - interval '500 days');
    insert into metadata.refresh_log (job_name, started_at, finished_at, status) values
        ('asked for', now() - interval '500 days', now(), 'success'),
        ('leading', now() - interval '500 days', now(), 'success'),
        ('young', now(), now(), 'success');
    insert into metadata.refresh_log (job_name, started_at, finished_at, status, lead_run_id)
        select 'led', now(), now(), 'success', run_id from metadata.refresh_log
        where job_name = 'leading';
    insert into metadata.job_requests (kind, run_id)
        select 'refresh', run_id from metadata.refresh_log where job_name = 'asked for';
    insert into metadata.refresh_log_model (run_id, model, rows_inserted, rows_deleted)
        select run_id, model, 1, 0 from metadata.refresh_log, unnest(array['a', 'b']) as model;
"""


def execute(settings: Settings, statement: str, *, role: str | None = None) -> list[Any]:
    connection = database.connect(settings, role=role, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description is not None else []
    finally:
        connection.close()


def count(settings: Settings, table: str = TABLE) -> int:
    [(found,)] = execute(settings, f"select count(*) from {table}")
    return int(found)


def fill(settings: Settings, home: Path, statement: str = FILL) -> Settings:
    """Raw tables, these rows, and spend's superseded versions let go after 90 days."""
    settings = dataclasses.replace(settings, home=home)
    catalogue = read_catalogue(settings.project_dir)
    connection = database.connect(settings)
    ensure_raw_tables(connection, catalogue.sources)
    connection.close()
    sources = tuple(
        dataclasses.replace(source, superseded_kept_seconds=90 * DAY)
        if source.relation == "oversight__spend"
        else source
        for source in catalogue.sources
    )
    connection = database.connect(settings, role="oversight_owner")
    with connection:
        _store(connection, dataclasses.replace(catalogue, sources=sources))
    connection.close()
    execute(settings, statement)
    return settings
