"""A small warehouse made by hand for tests of the API: marts, policies, two organizations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from flask.testing import FlaskClient
from psycopg2.sql import SQL, Identifier, Literal
from werkzeug.test import TestResponse

from api.app import create_app
from api.state import Limits
from clusters import PROJECT_DIR, Cluster
from warehouse import database
from warehouse.catalogue import Catalogue, Mart, MartColumn, MartWindow
from warehouse.declared_roles import read_roles
from warehouse.keys import create_key
from warehouse.settings import RateLimit, Settings

BASE = "/api/reporting/v1"
MOST_PAGES = 1000
SIGNING_KEY = "a-signing-key-that-only-tests-ever-use"
FIRST_DAY = date(2026, 9, 1)
DAYS = 60
THROUGH = date(2026, 10, 30)
ORGANIZATIONS = ("alpha", "beta")
PARTNERS = ("reddit_ads:1", "reddit_ads:2", "google_ads:1")
SCOPE = {"organization": "organization_id", "partner": "partner_id"}
ROLES = read_roles(PROJECT_DIR)[0]
PLENTY = dict.fromkeys(("standard", "enterprise"), RateLimit(amount=10**9, seconds=3600))
READERS = ("reader", "agent", "operator", "admin")


def column(name: str, data_type: str, *, is_required: bool = True) -> MartColumn:
    """A mart's column."""
    return MartColumn(
        name=name, data_type=data_type, description=f"The {name}.", is_required=is_required
    )


DAILY = Mart(
    name="daily_metrics",
    path="daily-metrics",
    description="Figures per day and partner. One row per organization, day and partner.",
    grain=("organization_id", "day", "partner_id"),
    columns=(
        column("organization_id", "text"),
        column("day", "date"),
        column("partner_id", "text"),
        column("spend", "numeric"),
        column("clicks", "bigint"),
    ),
    cadence="*/15 * * * *",
    freshness_sla_seconds=900,
    refresh="changed_keys",
    scope=SCOPE,
    readers=READERS,
    window=MartWindow(column="day", default_days=30, max_days=92),
    filters=("partner_id",),
    parity="flag",
)
WEEKLY = replace(
    DAILY,
    name="weekly_partner_performance",
    path="weekly-partner-performance",
    description="Figures per week and partner. One row per organization, week and partner.",
    grain=("organization_id", "week", "partner_id"),
    columns=(
        column("organization_id", "text"),
        column("week", "date"),
        column("partner_id", "text"),
        column("spend", "numeric"),
    ),
    freshness_sla_seconds=3600,
    window=MartWindow(column="week", default_days=84, max_days=92, kind="week"),
)
PARITY = Mart(
    name="parity_results",
    path="metadata/parity",
    description="Newest verdicts. One row per organization, mart, partner, period and metric.",
    grain=("organization_id", "mart", "partner_id", "period", "metric"),
    columns=(
        column("organization_id", "text"),
        column("mart", "text"),
        column("partner_id", "text", is_required=False),
        column("period", "date", is_required=False),
        column("metric", "text"),
        replace(column("verdict", "text"), values=("ok", "failed", "unchecked")),
        column("checked_at", "timestamptz"),
    ),
    cadence=None,
    freshness_sla_seconds=900,
    refresh="full",
    scope=SCOPE,
    readers=READERS,
    filters=("mart", "partner_id", "period", "metric", "verdict"),
)
OPERATORS_ONLY = replace(
    DAILY, name="operations", path="operations", readers=("operator", "admin"), filters=()
)
CATALOGUE = Catalogue(
    sources=(), feeds=(), marts=(DAILY, OPERATORS_ONLY, PARITY, WEEKLY), roles=ROLES
)


@dataclass(frozen=True, kw_only=True)
class ApiWarehouse:
    """A database with marts, and what a test needs to ask for them."""

    settings: Settings

    def run(self, statement: str, *parameters: object, role: str | None = None) -> list[Any]:
        """Run SQL as the administrator or as a role; gives back rows if there are any."""
        connection = database.connect(self.settings, role=role, autocommit=True)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description is not None else []
        finally:
            connection.close()

    def key(self, name: str, role: str = "reader", **scope: Sequence[str]) -> str:
        """A new key with a scope such as organization=["alpha"]."""
        connection = database.connect(self.settings, autocommit=True)
        try:
            return create_key(connection, name=name, role=role, scope=scope)
        finally:
            connection.close()

    def deploy(self, catalogue: Catalogue) -> None:
        """Make a catalogue the newest."""
        self.run(
            "insert into metadata.catalogue (content_hash, content) values (%s, %s)",
            catalogue.content_hash,
            catalogue.to_json(),
        )

    def client(self, key: str | None, limits: Limits | None = None) -> Client:
        """A client of an app of its own."""
        return Client(create_app(self.settings, limits=limits).test_client(), key)


@dataclass
class Client:
    """Asks as one key holder."""

    flask: FlaskClient
    key: str | None

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, **query: Any
    ) -> TestResponse:
        """GET below /api/reporting/v1, or at the root for paths that begin with /."""
        url = path if path.startswith("/") else f"{BASE}/{path}"
        arguments = {name.rstrip("_"): value for name, value in query.items()}
        sent = self.headers() | dict(headers or {})
        return self.flask.get(url, query_string=arguments, headers=sent, buffered=True)

    def headers(self) -> dict[str, str]:
        """The Authorization header, if there is a key."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def pages(self, path: str, **query: Any) -> list[list[dict[str, Any]]]:
        """All pages of a query, to the end."""
        pages: list[list[dict[str, Any]]] = []
        following: dict[str, str] = {}
        while len(pages) < MOST_PAGES:
            body = json_of(self.get(path, None, **query, **following))
            pages.append(body["data"])
            if body["next_page"] is None:
                return pages
            following = {"page": body["next_page"]}
        raise AssertionError(f"{path} has no last page")


def json_of(response: TestResponse) -> Any:
    """The body of an answer that must be 200, its numbers with all their digits."""
    assert response.status_code == 200, response.text
    assert response.content_type == "application/json"
    return json.loads(response.text, parse_float=Decimal)


def served_by(cluster: Cluster, settings: Settings) -> Settings:
    """The settings with what the API needs: its own login and a key to sign with."""
    api = cluster.settings_for(Cluster.name_of(settings), user="oversight_api")
    return replace(
        settings, api_database_url=api.database_url, signing_key=SIGNING_KEY, rate_limits=PLENTY
    )


def make_warehouse(cluster: Cluster, settings: Settings) -> ApiWarehouse:
    """Marts, policies, rows and a deployed catalogue in a migrated database."""
    warehouse = ApiWarehouse(settings=served_by(cluster, settings))
    for mart in (DAILY, OPERATORS_ONLY, WEEKLY):
        create_mart(warehouse, mart)
        for organization in ORGANIZATIONS:
            _fill(warehouse, mart, organization)
    warehouse.run(
        "create view reporting.parity_results with (security_invoker = true) as"
        " select organization_id, mart, partner_id, period, metric, verdict, checked_at"
        " from metadata.parity_verdicts;"
        " grant select on reporting.parity_results to oversight_reader",
        role="oversight_owner",
    )
    warehouse.deploy(CATALOGUE)
    return warehouse


def create_mart(warehouse: ApiWarehouse, mart: Mart) -> None:
    """A mart's table with its unique index and policies, as dbt's post-hook makes them."""
    table = Identifier("reporting", mart.name)
    definition = SQL(", ").join(
        SQL("{} {}").format(Identifier(item.name), SQL(item.data_type)) for item in mart.columns
    )
    policy = SQL(" and ").join(
        SQL("('*' = any(metadata.scope_ids({n})) or {c} = any(metadata.scope_ids({n})))").format(
            n=Literal(name), c=Identifier(column_name)
        )
        for name, column_name in sorted(mart.scope.items())
    )
    statement = SQL(
        "create table {table} ({definition}); create unique index on {table} ({grain});"
        " alter table {table} enable row level security;"
        " create policy owner on {table} to oversight_owner using (true) with check (true);"
        " create policy reader on {table} for select to oversight_reader using ({policy});"
        " grant select on {table} to oversight_reader"
    ).format(
        table=table,
        definition=definition,
        grain=SQL(", ").join(map(Identifier, mart.grain)),
        policy=policy,
    )
    connection = database.connect(warehouse.settings, role="oversight_owner", autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


def _fill(warehouse: ApiWarehouse, mart: Mart, organization: str) -> None:
    """Sixty days (or their Mondays) of three partners; both organizations have the same ids."""
    factor = ORGANIZATIONS.index(organization) + 1
    rows = []
    for number in range(DAYS):
        day = FIRST_DAY + timedelta(days=number)
        if mart.window is not None and mart.window.kind == "week" and day.weekday() != 0:
            continue
        for partner_number, partner in enumerate(PARTNERS):
            spend = f"{factor * (number + partner_number)}.0000100"
            clicks = [10**17 + number] if len(mart.columns) == 5 else []
            rows.append((organization, day, partner, spend, *clicks))
    places = ", ".join(["%s"] * len(rows))
    warehouse.run(f"insert into reporting.{mart.name} values {places}", *rows)
    warehouse.run(
        "insert into metadata.data_versions (model, organization_id, data_through)"
        " values (%s, %s, %s)",
        mart.name,
        organization,
        f"{THROUGH} 12:00+00",
    )
