"""What is declared in the dbt project: read and checked, then deployed to the database."""

from __future__ import annotations

from warehouse.declared import (
    FEEDS,
    AsOf,
    Catalogue,
    CatalogueError,
    Column,
    ExtractWindow,
    Feed,
    Mart,
    MartColumn,
    MartWindow,
    SourceTable,
)

__all__ = [
    "FEEDS",
    "AsOf",
    "Catalogue",
    "CatalogueError",
    "Column",
    "ExtractWindow",
    "Feed",
    "Mart",
    "MartColumn",
    "MartWindow",
    "SourceTable",
]
