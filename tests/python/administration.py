"""A warehouse whose engines can be asked, and a caller who may ask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from api_warehouse import CATALOGUE, ApiWarehouse, Client
from werkzeug.test import TestResponse

from clusters import PROJECT_DIR
from warehouse.catalogue import Catalogue, read_catalogue

BACKFILLS = "/api/admin/backfills"
PULLS = "/api/admin/etl/pull-reporting"
EVERYTHING: dict[str, Any] = {"organization": ["*"]}


def with_engines() -> Catalogue:
    """The marts of the API's tests beside the engines of the project."""
    project = read_catalogue(PROJECT_DIR)
    return replace(CATALOGUE, sources=project.sources, feeds=project.feeds)


def deploy_with_engines(warehouse: ApiWarehouse) -> None:
    """Deploy them, as a runner does that knows the address of one of the engines."""
    warehouse.deploy(with_engines())
    warehouse.run(
        "insert into metadata.jobs (job_name, kind, cadence)"
        " values ('pull oversight', 'pull', '* * * * *')"
    )


@dataclass
class Admin:
    """Asks for pulls and backfills as one key holder."""

    warehouse: ApiWarehouse
    client: Client

    def post(
        self, path: str, body: Any = None, key: str | None = None, **headers: str
    ) -> TestResponse:
        """POST a body, which may be bytes; header names with _ for -."""
        sent = self.client.headers() | {n.replace("_", "-"): v for n, v in headers.items()}
        if key is not None:
            sent["Idempotency-Key"] = key
        if body is None:
            return self.client.flask.post(path, headers=sent)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent.setdefault("Content-Type", "application/json")
        return self.client.flask.post(path, data=data, headers=sent)

    def get(self, path: str, headers: Mapping[str, str] | None = None, **query: Any) -> Any:
        return self.client.get(path, headers, **query)

    def trail(self, columns: str = "action, status, outcome") -> list[Any]:
        """What the trail has of this caller, oldest first."""
        return self.warehouse.run(
            f"select {columns} from metadata.audit_log where principal_id ="
            " (select principal_id::text from metadata.principals where name = %s)"
            " order by audit_id",
            self.name,
        )

    @property
    def name(self) -> str:
        """The name of the key."""
        return _names[self.client.key or ""]


_names: dict[str, str] = {}


def admin(
    warehouse: ApiWarehouse, name: str, role: str = "admin", scope: Any = EVERYTHING
) -> Admin:
    """A caller of a name that no other test has."""
    key = warehouse.key(name, role, **scope)
    _names[key] = name
    return Admin(warehouse, warehouse.client(key))
