"""One source table of one batch: from streamed records to versions, rejects and counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Composed, Identifier, Literal

from runner.landing.errors import LandingError
from runner.landing.extracts import Extract
from runner.landing.reader import ExtractReader, PipeSource
from runner.landing.sql import REASON_SEPARATOR, incoming_columns
from warehouse.declared import SourceTable

RECORD = SQL(
    "(select jsonb_object_agg(substr(e.key, 3), e.value)::text "
    "from jsonb_each(to_jsonb(i)) as e where e.key like 'c\\_%%')"
)
"""A row of `incoming as i` as it is kept among the rejects."""
_COPY_BYTES = 1 << 18


Candidates = tuple[int, str, int, int]
"""File number, organization, records that could land, and how many of them are void."""


@dataclass(kw_only=True)
class FileCount:
    """What became of a file's records: read = accepted + rejected + closed + unchanged.

    Both rejected and closed ones are in staging.rejected_rows; closed ones speak of closed days.
    """

    file_name: str
    source_table: str
    read: int = 0
    accepted: int = 0
    rejected: int = 0
    closed: int = 0
    unchanged: int = 0
    undeclared_columns: tuple[str, ...] = ()


@dataclass(kw_only=True)
class OrganizationCount:
    """What a batch holds of one organization; `extracted_through` in UTC, as PostgreSQL writes."""

    accepted: int = 0
    voided: int = 0
    extracted_through: str = ""


@dataclass(kw_only=True)
class TableBatch:
    """The files of one source table in one batch, while they are landed."""

    table: SourceTable
    batch_id: int
    extracts: list[Extract]
    landed_at: str
    is_pulled: bool = False
    """Asked of the engine, which shows a bad record again and again; it is kept once."""
    counts: list[FileCount] = field(default_factory=list)
    organizations: dict[str, OrganizationCount] = field(default_factory=dict)
    candidates: list[Candidates] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    closed_before: str | None = None

    @property
    def raw(self) -> Identifier:
        """The raw table."""
        return Identifier("staging", self.table.relation)

    @property
    def moment(self) -> Composed:
        """Extract time of a row of `incoming as i`: the snapshot's, else the record's own, else
        its control file's, else the batch's."""
        if self.table.mode == "snapshot":
            return Composed([SQL("i.as_of")])
        own: Composable = SQL("null")
        if self.table.extracted_at is not None:
            own = SQL("i.{}").format(Identifier(f"c_{self.table.extracted_at}"))
        return SQL("coalesce({}, i.as_of, {}::timestamptz)").format(own, Literal(self.landed_at))

    @property
    def rejected(self) -> int:
        """Records of all files that were rejected, those of closed days not counted."""
        return sum(count.rejected for count in self.counts)

    @property
    def closed(self) -> int:
        """Records of all files that speak of closed days."""
        return sum(count.closed for count in self.counts)


def stream_in(
    cursor: Cursor,
    batch: TableBatch,
    reader: ExtractReader,
    *,
    currency: str,
    progress: Callable[[Extract, float], None],
) -> None:
    """Fill the temporary tables `incoming` and `unparsed` with all files of the table."""
    columns = SQL(", ").join(
        SQL("{} {}").format(Identifier(name), SQL(kind))
        for name, kind in incoming_columns(batch.table)
    )
    cursor.execute("drop table if exists pg_temp.incoming; drop table if exists pg_temp.unparsed")
    cursor.execute(SQL("create temporary table incoming ({}) on commit drop").format(columns))
    cursor.execute(
        "create temporary table unparsed "
        "(file_number integer, record_number bigint, reasons text, record text) on commit drop"
    )
    batch.counts = []
    for number, extract in enumerate(batch.extracts):
        reader.stream_records(
            extract,
            file_number=number,
            currency=currency,
            sink=partial(_copy, cursor, extract, "incoming"),
            progress=partial(progress, extract),
        )
        read = cursor.rowcount
        reader.stream_unparsed(
            extract,
            file_number=number,
            sink=partial(_copy, cursor, extract, "unparsed"),
        )
        if extract.format != "parquet":
            read += cursor.rowcount
        _check_complete(extract, read)
        if _is_cut(extract) and not reader.is_tail_unparsed(extract):
            _reject_last(cursor, number)
        batch.counts.append(
            FileCount(
                file_name=extract.name,
                source_table=batch.table.name,
                undeclared_columns=extract.undeclared,
            )
        )
    cursor.execute("alter table pg_temp.incoming add column is_closed boolean default false")


def _copy(cursor: Cursor, extract: Extract, table: str, source: PipeSource) -> None:
    try:
        cursor.copy_expert(f"copy pg_temp.{table} from stdin (format csv)", source, _COPY_BYTES)
    except psycopg2.DataError as error:
        raise LandingError(f"{extract.path}: the database refuses a value: {error}") from error


def _check_complete(extract: Extract, read: int) -> None:
    """What was read, with a CSV's header, must be what the file's line ends make."""
    if extract.format == "csv":
        read += 1
    if extract.records and read not in extract.records:
        raise LandingError(
            f"{extract.path}: {read} records can be told apart, but its line ends make "
            f"{' or '.join(map(str, sorted(extract.records)))}; look for a quote that is not "
            "closed, or that stands within a field without quotes"
        )


def _is_cut(extract: Extract) -> bool:
    return (
        extract.format == "csv"
        and extract.table.final_newline == "required"
        and not extract.has_final_newline
    )


def _reject_last(cursor: Cursor, file_number: int) -> None:
    cursor.execute(
        SQL(
            """
            update pg_temp.incoming as i
            set reasons = concat_ws(%(separator)s, i.reasons, %(reason)s),
                record = coalesce(i.record, {})
            where i.file_number = %(file)s and i.record_number = (
                select max(record_number) from pg_temp.incoming where file_number = %(file)s
            )
            """
        ).format(RECORD),
        {
            "separator": REASON_SEPARATOR,
            "reason": "the file ends without a newline, so its last record may be cut",
            "file": file_number,
        },
    )


def _number_records(cursor: Cursor) -> None:
    """Count records as they stand in the file: DuckDB's numbers leave out what it can't parse."""
    cursor.execute("select distinct file_number from pg_temp.unparsed")
    for (number,) in cursor.fetchall():
        cursor.execute(
            """
            update pg_temp.incoming
            set record_number = record_number + width_bucket(record_number - 1, (
                select array_agg(gap order by gap) from (
                    select record_number - row_number() over (order by record_number) as gap
                    from pg_temp.unparsed where file_number = %(file)s
                ) as earlier
            ))
            where reasons is not null and file_number = %(file)s
            """,
            {"file": number},
        )


def store_rejects(cursor: Cursor, batch: TableBatch) -> None:
    """Keep every record that can't be landed, with all that is wrong with it."""
    if not batch.rejected + batch.closed:
        return
    _number_records(cursor)
    unknown: Composable = SQL("")
    if batch.is_pulled:
        unknown = SQL(
            """
            where not exists (
                select from staging.rejected_rows as k
                where k.engine = {engine} and k.source_table = {table}
                    and coalesce(k.record, '') = coalesce(rejects.record, '')
                    and k.reasons = string_to_array(rejects.reasons, {separator})
            )
            """
        ).format(
            engine=Literal(batch.table.engine),
            table=Literal(batch.table.name),
            separator=Literal(REASON_SEPARATOR),
        )
    names = SQL(", ").join(Literal(extract.name) for extract in batch.extracts)
    cursor.execute(
        SQL(
            """
            insert into staging.rejected_rows
                (batch_id, engine, source_table, file_name, record_number, reasons, record)
            select %s, %s, %s, (array[{names}])[file_number + 1], record_number,
                string_to_array(reasons, %s), record
            from (
                select file_number, record_number, reasons, record
                from pg_temp.incoming where reasons is not null
                union all
                select file_number, record_number, reasons, record from pg_temp.unparsed
            ) as rejects
            {unknown}
            order by file_number, record_number
            """
        ).format(names=names, unknown=unknown),
        (batch.batch_id, batch.table.engine, batch.table.name, REASON_SEPARATOR),
    )
    known = batch.rejected + batch.closed - cursor.rowcount
    if known:
        batch.notes.append(
            f"{batch.table.name}: {known} of the records that were not landed are kept already"
        )


def count_records(cursor: Cursor, batch: TableBatch) -> None:
    """Count what each file holds, and note what each organization's newest extract time is."""
    cursor.execute(
        SQL(
            """
            select i.file_number, i.organization_id, count(*), count(i.reasons),
                count(*) filter (where i.is_closed),
                count(*) filter (where i.is_void and i.reasons is null),
                max(case when i.reasons is null then {moment} end)::text
            from pg_temp.incoming as i group by i.file_number, i.organization_id
            union all
            select file_number, null, count(*), count(*), 0, 0, null
            from pg_temp.unparsed group by file_number
            """
        ).format(moment=batch.moment)
    )
    for number, organization, read, refused, closed, voids, through in cursor.fetchall():
        count = batch.counts[number]
        count.read += read
        count.rejected += refused - closed
        count.closed += closed
        count.unchanged += read - refused
        if organization is not None and through is not None:
            total = batch.organizations.setdefault(organization, OrganizationCount())
            total.extracted_through = max(total.extracted_through, through)
            batch.candidates.append((number, organization, read - refused, voids))


def check_counts(batch: TableBatch, *, may_be_empty: bool) -> None:
    """Control files count records; a file without any needs one that says so, or leave."""
    problems = []
    for extract, count in zip(batch.extracts, batch.counts, strict=True):
        expected = extract.control.records if extract.control else None
        if expected is not None and expected != count.read:
            problems.append(
                f"{extract.path}: it holds {count.read} records, but its control file says "
                f"{expected}; have the engine write both again"
            )
        elif (
            count.read == 0
            and not may_be_empty
            and (expected is None or batch.table.mode == "snapshot")
        ):
            problems.append(
                f"{extract.path}: it holds no records; if that is right, load it with --allow-void"
            )
    if problems:
        raise LandingError("\n".join(problems))
