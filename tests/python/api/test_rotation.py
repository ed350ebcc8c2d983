"""Keys that are replaced, and how every process is told of changes."""

from __future__ import annotations

import select
from datetime import datetime, timedelta, timezone

import pytest
from api_warehouse import ApiWarehouse, Client

from api.access.auth import Authenticator
from api.state import EXTENSION, Limits, State
from warehouse import database
from warehouse.keys import ApiKeyError, create_key, revoke_key, revoke_session, rotate_key

FORGETFUL = Limits(remember_keys_seconds=0)
HOUR = timedelta(hours=1)


def rotated(warehouse: ApiWarehouse, name: str, overlap: timedelta = timedelta()) -> str:
    connection = database.connect(warehouse.settings, autocommit=True)
    try:
        return rotate_key(connection, name, overlap=overlap)
    finally:
        connection.close()


def statuses(client: Client, *keys: str) -> list[int]:
    headers = [{"Authorization": f"Bearer {key}"} for key in keys]
    return [client.get("marts", header).status_code for header in headers]


def authenticator_of(client: Client) -> Authenticator:
    state: State = client.flask.application.extensions[EXTENSION]
    return state.authenticator


def test_both_keys_of_one_principal_work_until_the_overlap_is_over(
    read_only: ApiWarehouse,
) -> None:
    first = read_only.key("replaced", organization=["alpha"])
    client = read_only.client(None, FORGETFUL)
    second = rotated(read_only, "replaced", HOUR)
    assert statuses(client, first, second) == [200, 200]
    who = authenticator_of(client)
    old, new = who.principal(f"Bearer {first}"), who.principal(f"Bearer {second}")
    assert (old.id, old.name, old.scope) == (new.id, new.name, new.scope)
    assert new.expires_at is None
    assert old.expires_at is not None
    assert old.expires_at - datetime.now(timezone.utc) < HOUR
    read_only.run("update metadata.principals set old_key_until = now() where name = 'replaced'")
    assert statuses(client, first, second) == [401, 200]


def test_there_are_two_keys_at_most_and_both_end_with_the_principal(
    read_only: ApiWarehouse,
) -> None:
    first = read_only.key("replaced twice", organization=["alpha"])
    client = read_only.client(None, FORGETFUL)
    second = rotated(read_only, "replaced twice", HOUR)
    third = rotated(read_only, "replaced twice", HOUR)
    assert statuses(client, first, second, third) == [401, 200, 200]
    connection = database.connect(read_only.settings, autocommit=True)
    revoke_key(connection, "replaced twice")
    assert statuses(client, first, second, third) == [401, 401, 401]
    with pytest.raises(ApiKeyError, match="is in force"):
        rotate_key(connection, "replaced twice")
    connection.close()


def test_without_an_overlap_the_old_key_ends(read_only: ApiWarehouse) -> None:
    first = read_only.key("replaced at once", organization=["alpha"])
    client = read_only.client(None, FORGETFUL)
    second = rotated(read_only, "replaced at once")
    assert statuses(client, first, second) == [401, 200]


def test_an_expired_key_is_replaced_only_with_a_new_expiry_and_the_old_one_stays_expired(
    read_only: ApiWarehouse,
) -> None:
    connection = database.connect(read_only.settings, autocommit=True)
    past, soon = datetime.now(timezone.utc) - HOUR, datetime.now(timezone.utc) + HOUR
    scope = {"organization": ["alpha"]}
    first = create_key(connection, name="late", role="reader", scope=scope, expires_at=past)
    with pytest.raises(ApiKeyError, match="is in force"):
        rotate_key(connection, "late", overlap=HOUR)
    second = rotate_key(connection, "late", overlap=HOUR, expires_at=soon)
    assert statuses(read_only.client(None, FORGETFUL), first, second) == [401, 200]
    connection.close()


def test_who_may_call_is_told_when_it_changes_and_not_when_a_key_is_used(
    own: ApiWarehouse,
) -> None:
    listening = database.connect(own.settings, autocommit=True)
    changing = database.connect(own.settings, autocommit=True)
    with listening.cursor() as cursor:
        cursor.execute("listen oversight_principals")

    def told() -> int:
        select.select([listening], [], [], 0.2)
        listening.poll()
        count = len(listening.notifies)
        listening.notifies.clear()
        return count

    key = own.key("told of", organization=["alpha"])
    assert told() == 1
    assert own.client(key).get("marts").status_code == 200
    assert own.run("select last_used_at is not null from metadata.principals") == [(True,)]
    assert told() == 0
    for change in (
        lambda: rotate_key(changing, "told of"),
        lambda: revoke_key(changing, "told of"),
        lambda: revoke_session(changing, "told-of"),
    ):
        change()
        assert told() >= 1
    listening.close()
    changing.close()


def test_what_was_told_is_looked_up_again(read_only: ApiWarehouse) -> None:
    key = read_only.key("to forget", organization=["alpha"])
    client = read_only.client(None, Limits(remember_keys_seconds=60))
    assert statuses(client, key) == [200]
    rotated(read_only, "to forget")
    assert statuses(client, key) == [200]
    authenticator_of(client).forget()
    assert statuses(client, key) == [401]
