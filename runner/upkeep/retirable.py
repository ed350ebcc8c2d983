"""Which rows may go: declared per source and per table, said as SQL that picks their keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal as OneOf

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal

from warehouse.declared import Catalogue, SourceTable
from warehouse.raw_tables import canonical_type

Reason = OneOf["age", "superseded", "closed_day"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Rows of `table` (schema.table) that go; `picks` is a query of the values of `key`.

    Rules of one group go in one transaction, in their order.
    """

    group: str
    table: str
    key: str
    reason: Reason
    before: str
    picks: Composable


def rules(cursor: Cursor, catalogue: Catalogue, now: datetime) -> list[Rule]:
    """Everything that may go now. Raw rows whose batch is not in every table yet stay."""
    found: list[Rule] = []
    for source in catalogue.sources:
        if source.may_retire_closed_days and catalogue.closed_before and source.date_column:
            found.append(_closed(source, catalogue))
        if source.superseded_kept_seconds is not None:
            found.append(_superseded(source, catalogue, now))
    if "refresh_log" in catalogue.retention:
        before = now - timedelta(seconds=catalogue.retention["refresh_log"])
        found += _refresh_log(cursor, before)
    if "audit_log" in catalogue.retention:
        found.append(_audit_log(now - timedelta(seconds=catalogue.retention["audit_log"])))
    return found


_VERSIONS = SQL(
    "partition by record_key "
    "order by record_version desc, extracted_at desc, batch_id desc, row_id desc"
)


@dataclass(frozen=True, kw_only=True)
class HeldBack:
    """A model that has not taken every landed batch: the raw rows of those stay."""

    model: str
    batches: int
    oldest_landed_at: datetime


def held_back(cursor: Cursor, catalogue: Catalogue) -> list[HeldBack]:
    """Which models hold raw rows back, none when no raw rows are declared to go."""
    if not any(
        source.may_retire_closed_days or source.superseded_kept_seconds is not None
        for source in catalogue.sources
    ):
        return []
    cursor.execute(
        SQL(
            """
            select m.model, count(*), min(b.landed_at)
            from ({models}) as m
            join metadata.batches as b on b.status = 'landed'
            where not exists (
                select from metadata.applied_batches as a
                where a.model = m.model and a.batch_id = b.batch_id
            )
            group by m.model
            order by m.model
            """
        ).format(models=_holding(catalogue))
    )
    return [
        HeldBack(model=model, batches=batches, oldest_landed_at=oldest)
        for model, batches, oldest in cursor.fetchall()
    ]


def _holding(catalogue: Catalogue) -> Composable:
    """Every declared mart, and every fact or dimension that keeps a ledger and still exists."""
    marts = [mart.name for mart in catalogue.marts if mart.cadence is not None]
    return SQL(
        """
        select unnest({marts}::text[]) as model
        union
        select a.model
        from metadata.applied_batches as a
        join pg_class as c on c.relname = a.model and c.relkind in ('r', 'p')
        join pg_namespace as n on n.oid = c.relnamespace and n.nspname = 'curated'
        """
    ).format(marts=Literal(marts))


def _applied(catalogue: Catalogue) -> Composable:
    """Batches that every model holds that counts."""
    return SQL(
        """
        select a.batch_id from metadata.applied_batches as a
        join ({models}) as m on m.model = a.model
        group by a.batch_id
        having count(*) = (select count(*) from ({models}) as m)
        """
    ).format(models=_holding(catalogue))


def _closed(source: SourceTable, catalogue: Catalogue) -> Rule:
    """All versions of the records whose newest stands in a closed day."""
    assert source.date_column is not None
    day: Composable = Identifier(source.date_column)
    if canonical_type(source.column(source.date_column).data_type) != "date":
        day = SQL("({} at time zone {})::date").format(day, Literal(catalogue.reporting_timezone))
    picks = SQL(
        """
        select row_id from (
            select row_id, batch_id, first_value({day}) over ({versions}) as newest_day,
                bool_and(batch_id in ({applied})) over (partition by record_key) as is_applied
            from {table}
        ) as versions
        where newest_day < {before} and is_applied
        """
    ).format(
        day=day,
        versions=_VERSIONS,
        applied=_applied(catalogue),
        table=Identifier("staging", source.relation),
        before=Literal(catalogue.closed_before),
    )
    return Rule(
        group=f"staging.{source.relation}",
        table=f"staging.{source.relation}",
        key="row_id",
        reason="closed_day",
        before=str(catalogue.closed_before),
        picks=picks,
    )


def _superseded(source: SourceTable, catalogue: Catalogue, now: datetime) -> Rule:
    """Versions that are not the newest of their record, and landed long enough ago."""
    assert source.superseded_kept_seconds is not None
    before = now - timedelta(seconds=source.superseded_kept_seconds)
    picks = SQL(
        """
        select row_id from (
            select row_id, batch_id, row_number() over ({versions}) as version_rank from {table}
        ) as versions
        where
            version_rank > 1
            and batch_id in (select batch_id from metadata.batches where landed_at < {before})
            and batch_id in ({applied})
        """
    ).format(
        versions=_VERSIONS,
        table=Identifier("staging", source.relation),
        before=Literal(before),
        applied=_applied(catalogue),
    )
    return Rule(
        group=f"staging.{source.relation}",
        table=f"staging.{source.relation}",
        key="row_id",
        reason="superseded",
        before=before.isoformat(),
        picks=picks,
    )


def _refresh_log(cursor: Cursor, before: datetime) -> list[Rule]:
    """Old runs that nothing speaks of any more, with their counts per model."""
    cursor.execute(
        """
        select c.conrelid::regclass::text, a.attname
        from pg_constraint as c
        join pg_attribute as a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
        where
            c.confrelid = 'metadata.refresh_log'::regclass and c.contype = 'f'
            and c.confdeltype in ('a', 'r') and c.conrelid <> 'metadata.refresh_log_model'::regclass
        """
    )
    mentions = [(str(table), str(column)) for table, column in cursor.fetchall()]
    others = [item for item in mentions if item[0] != "metadata.refresh_log"]

    def may_go(alias: str) -> Composable:
        """Old, over, and mentioned by no other table."""
        return SQL(" and ").join(
            [
                SQL("{0}.status <> 'running' and {0}.started_at < {1}").format(
                    SQL(alias), Literal(before)
                ),
                *(_is_not_mentioned(alias, table, column) for table, column in others),
            ]
        )

    own = [
        SQL(
            " and not exists (select from metadata.refresh_log as r where r.{} = l.run_id "
            "and not ({}))"
        ).format(Identifier(column), may_go("r"))
        for table, column in mentions
        if table == "metadata.refresh_log"
    ]
    runs = SQL("select l.run_id from metadata.refresh_log as l where {}{}").format(
        may_go("l"), SQL("").join(own)
    )
    of_models = SQL("select distinct run_id from metadata.refresh_log_model where run_id in ({})")
    return [
        Rule(
            group="metadata.refresh_log",
            table=table,
            key="run_id",
            reason="age",
            before=before.isoformat(),
            picks=picks,
        )
        for table, picks in (
            ("metadata.refresh_log_model", of_models.format(runs)),
            ("metadata.refresh_log", runs),
        )
    ]


def _audit_log(before: datetime) -> Rule:
    """Old calls of the administration."""
    return Rule(
        group="metadata.audit_log",
        table="metadata.audit_log",
        key="audit_id",
        reason="age",
        before=before.isoformat(),
        picks=SQL("select audit_id from metadata.audit_log where called_at < {}").format(
            Literal(before)
        ),
    )


def _is_not_mentioned(alias: str, table: str, column: str) -> Composable:
    return SQL("not exists (select from {} as m where m.{} = {}.run_id)").format(
        Identifier(*table.split(".")), Identifier(column), SQL(alias)
    )
