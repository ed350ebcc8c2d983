"""Roles come from the deployed catalogue: what it no longer has may do nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from api_warehouse import CATALOGUE, ApiWarehouse

from api.access.auth import Right, may
from api.state import EXTENSION, Limits, State
from warehouse.keys import ApiKeyError


@pytest.mark.parametrize(
    ("role", "rights"),
    [
        ("reader", set()),
        ("agent", set()),
        ("monitoring", {"operate"}),
        ("operator", {"operate"}),
        ("admin", {"operate", "administer"}),
    ],
)
def test_a_role_has_the_rights_of_the_seed(
    read_only: ApiWarehouse, role: str, rights: set[Right]
) -> None:
    key = read_only.key(f"rights of {role}", role, organization=["alpha"])
    state: State = read_only.client(key).flask.application.extensions[EXTENSION]
    principal = state.authenticator.principal(f"Bearer {key}")
    wanted: tuple[Right, ...] = ("operate", "administer")
    assert {right for right in wanted if may(principal, right)} == rights
    assert principal.tier == "standard"
    assert len(principal.id) == 36


def test_a_role_that_went_may_do_nothing_and_one_that_comes_may_at_once(
    own: ApiWarehouse,
) -> None:
    with pytest.raises(
        ApiKeyError, match=r"no role 'auditor'; use one of admin, .*oversight deploy"
    ):
        own.key("early", "auditor", organization=["alpha"])
    auditor = replace(CATALOGUE.roles[0], name="auditor")
    with_auditor = replace(CATALOGUE, roles=(*CATALOGUE.roles, auditor))
    own.deploy(with_auditor)
    limits = Limits(remember_keys_seconds=0, remember_catalogue_seconds=0)
    client = own.client(own.key("late", "auditor", organization=["alpha"]), limits)
    assert client.get("marts").status_code == 200
    assert client.get("daily-metrics").status_code == 403
    own.run("delete from metadata.catalogue where content_hash = %s", with_auditor.content_hash)
    for path in ("marts", "metadata/refresh", "daily-metrics", "/openapi.json"):
        response = client.get(path)
        assert response.status_code == 403, path
        assert response.json is not None
        assert response.json["detail"] == "the role 'auditor' is not declared"
