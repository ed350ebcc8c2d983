"""A small engine of the landing tests' own, and a way to load text and look at what landed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runner.landing.ledger import LoadReport
from runner.landing.load import load_engine
from warehouse import database
from warehouse.declared import AsOf, Catalogue, Column, ExtractWindow, SourceTable
from warehouse.settings import Settings


def column(name: str, data_type: str = "text", **more: Any) -> Column:
    return Column(name=name, data_type=data_type, description=f"The {name}.", **more)


SPEND = SourceTable(
    engine="shop",
    name="spend",
    relation="shop__spend",
    description="Spend. One row per record and version of it.",
    files=("spend*",),
    mode="append",
    key=("id",),
    organization_value="acme",
    columns=(
        column("id"),
        column("day", "date", formats=("%Y-%m-%d",)),
        column("amount", "numeric"),
        column("clicks", "bigint"),
        column("note"),
    ),
)
TOTALS = SourceTable(
    engine="shop",
    name="totals",
    relation="shop__totals",
    description="Totals. One row per day and version of it.",
    files=("totals*",),
    mode="snapshot",
    key=("day",),
    organization_value="acme",
    date_column="day",
    window=ExtractWindow(kind="control_file"),
    as_of=AsOf(kind="control_file"),
    columns=(column("day", "date"), column("amount", "numeric")),
)
HEADER = "id,day,amount,clicks,note"
GOOD = "a,2026-01-01,1.50,3,first"


def with_columns(table: SourceTable, *columns: Column, **more: Any) -> SourceTable:
    """The table with columns added or replaced by name."""
    names = {item.name for item in columns}
    kept = tuple(item for item in table.columns if item.name not in names)
    return replace(table, columns=(*kept, *columns), **more)


@dataclass
class Shop:
    """Loads files of the engine `shop` and reads what landed."""

    settings: Settings
    folder: Path
    tables: tuple[SourceTable, ...] = (SPEND, TOTALS)
    _number: int = field(default=0)

    def load(
        self, content: str | bytes, name: str = "spend.csv", *, control: Any = None, **options: Any
    ) -> LoadReport:
        """Load one file from a folder of its own."""
        return self.load_files({name: content}, control={name: control}, **options)

    def load_files(
        self,
        files: dict[str, str | bytes],
        *,
        control: dict[str, Any] | None = None,
        **options: Any,
    ) -> LoadReport:
        """Load several files as one batch."""
        self._number += 1
        folder = self.folder / str(self._number)
        folder.mkdir(parents=True)
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (folder / name).write_bytes(data)
        for name, said in (control or {}).items():
            if said is not None:
                (folder / f"{name}.control.json").write_text(json.dumps(said))
        return self.load_folder(folder, **options)

    def load_folder(self, folder: Path, **options: Any) -> LoadReport:
        """Load a folder as it is."""
        return load_engine(self.settings, self.catalogue, "shop", folder, **options)

    @property
    def catalogue(self) -> Catalogue:
        return Catalogue(sources=self.tables, feeds=(), marts=())

    def total(self, day_amounts: Mapping[str, object], *, as_of: str, window: Sequence[str] = (),
              **options: Any) -> LoadReport:  # fmt: skip
        """Load a snapshot of totals per day."""
        lines = [f"{day},{amount}" for day, amount in day_amounts.items()]
        first, last = window or (min(day_amounts), max(day_amounts))
        control = {
            "as_of": as_of,
            "window": {"from": first, "to": last},
            "records": len(lines),
        }
        text = "\n".join(["day,amount", *lines]) + "\n"
        return self.load(text, "totals.csv", control=control, **options)

    def query(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Rows of any query, as the administrator."""
        connection = database.connect(self.settings, autocommit=True)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return list(cursor.fetchall()) if cursor.description is not None else []
        finally:
            connection.close()

    def raw(self, columns: str = "id, amount::text, is_void", table: str = "spend") -> list[Any]:
        """All versions in the order of landing."""
        return self.query(f"select {columns} from staging.shop__{table} order by row_id")

    def newest(self, columns: str = "day::text, amount::text", table: str = "totals") -> list[Any]:
        """The newest live version of each record."""
        return self.query(
            f"""
            select {columns} from (
                select distinct on (record_key) * from staging.shop__{table}
                order by record_key, record_version desc, extracted_at desc, batch_id desc,
                    row_id desc
            ) as n
            where not is_void order by record_key
            """
        )

    def rejects(self) -> list[tuple[int, list[str], str]]:
        """Number, reasons and text of every reject."""
        return self.query(
            "select record_number, reasons, record from staging.rejected_rows "
            "order by rejected_row_id"
        )

    def counts(self) -> dict[str, int]:
        """How many rows each table that landing writes holds."""
        tables = (
            "staging.shop__spend", "staging.shop__totals", "staging.rejected_rows",
            "metadata.batch_tables", "metadata.landed_files", "metadata.extract_windows",
        )  # fmt: skip
        return {name: self.query(f"select count(*) from {name}")[0][0] for name in tables}


def counted(report: LoadReport) -> list[tuple[int, int, int, int]]:
    """Read, accepted, rejected and unchanged of each file."""
    for count in report.files:
        assert count.read == count.accepted + count.rejected + count.unchanged
    return [(f.read, f.accepted, f.rejected, f.unchanged) for f in report.files]
