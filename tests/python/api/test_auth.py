"""Who may call: keys, roles, and nothing open but health."""

from datetime import datetime, timedelta, timezone

import pytest
from api_warehouse import OPERATORS_ONLY, ApiWarehouse, json_of

from api.state import Limits
from warehouse import database
from warehouse.keys import ApiKeyError, create_key, list_keys, revoke_key

UNKNOWN_KEY = "ov_" + "A" * 43


def test_an_address_that_does_not_exist_tells_nothing_without_a_key(
    read_only: ApiWarehouse,
) -> None:
    assert read_only.client(None).get("nope").status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {UNKNOWN_KEY}",
        "Bearer x",
        f"Bearer {UNKNOWN_KEY}x",
        f"Bearer {UNKNOWN_KEY}",
        f"Bearer {UNKNOWN_KEY}, {UNKNOWN_KEY}",
        "Bearer ov_\u00e9" + "A" * 42,
    ],
)
def test_a_wrong_header_is_refused(read_only: ApiWarehouse, header: str) -> None:
    response = read_only.client(None).get("marts", {"Authorization": header})
    assert response.status_code == 401
    assert response.json is not None
    assert response.json["type"] == "urn:oversight:problem:unauthorized"


def test_a_key_is_nowhere_in_the_database(read_only: ApiWarehouse) -> None:
    key = read_only.key("kept-as-hash", organization=["alpha"])
    stored = str(read_only.run("select * from metadata.principals where name = 'kept-as-hash'"))
    assert key not in stored
    assert key[3:] not in stored


def test_a_revoked_key_ends_when_it_is_no_longer_remembered(read_only: ApiWarehouse) -> None:
    key = read_only.key("to-revoke", organization=["alpha"])
    remembering = read_only.client(key, Limits(remember_keys_seconds=60))
    forgetting = read_only.client(key, Limits(remember_keys_seconds=0))
    assert remembering.get("marts").status_code == forgetting.get("marts").status_code == 200
    connection = database.connect(read_only.settings, autocommit=True)
    revoke_key(connection, "to-revoke")
    with pytest.raises(ApiKeyError, match="no key named 'to-revoke' is in force"):
        revoke_key(connection, "to-revoke")
    connection.close()
    assert forgetting.get("marts").status_code == 401
    assert remembering.get("marts").status_code == 200


def test_an_expired_key_is_refused_even_while_remembered(read_only: ApiWarehouse) -> None:
    key = read_only.key("to-expire", organization=["alpha"])
    client = read_only.client(key, Limits(remember_keys_seconds=0))
    for moment, status in (("now() + interval '1 hour'", 200), ("now()", 401)):
        read_only.run(
            f"update metadata.principals set expires_at = {moment} where name = 'to-expire'"
        )
        assert client.get("marts").status_code == status
    read_only.run(
        "update metadata.principals set expires_at = now() + interval '0.5 s'"
        " where name = 'to-expire'"
    )
    remembering = read_only.client(key, Limits(remember_keys_seconds=60))
    assert remembering.get("marts").status_code == 200
    deadline = datetime.now(timezone.utc) + timedelta(seconds=3)
    while remembering.get("marts").status_code == 200:
        assert datetime.now(timezone.utc) < deadline


def test_a_role_that_is_no_reader_of_a_mart_is_refused_and_not_told_of_it(
    read_only: ApiWarehouse,
) -> None:
    reader = read_only.client(read_only.key("a-reader", organization=["alpha"]))
    operator = read_only.client(read_only.key("an-operator", "operator", organization=["alpha"]))
    assert reader.get(OPERATORS_ONLY.path).status_code == 403
    assert operator.get(OPERATORS_ONLY.path).status_code == 200
    for client, expected in ((reader, False), (operator, True)):
        names = {item["name"] for item in json_of(client.get("marts"))["data"]}
        views = {item["view"] for item in json_of(client.get("metadata/refresh"))["views"]}
        assert (OPERATORS_ONLY.name in names, OPERATORS_ONLY.name in views) == (expected, expected)
        assert "daily_metrics" in names & views


def test_use_is_noted_at_most_once_a_minute(read_only: ApiWarehouse) -> None:
    client = read_only.client(
        read_only.key("used", organization=["alpha"]), Limits(remember_keys_seconds=0)
    )
    query = "select last_used_at from metadata.principals where name = 'used'"
    assert read_only.run(query) == [(None,)]
    assert client.get("marts").status_code == 200
    first = read_only.run(query)
    assert first != [(None,)]
    assert client.get("marts").status_code == 200
    assert read_only.run(query) == first


@pytest.mark.parametrize("bad", ["a,b", "{a}", 'a"b', "a\\b", "", "a\nb"])
def test_ids_that_a_policy_cannot_compare_are_refused(read_only: ApiWarehouse, bad: str) -> None:
    with pytest.raises(ApiKeyError, match="is refused"):
        read_only.key("bad-scope", organization=[bad])
    with pytest.raises(ApiKeyError, match="is refused"):
        read_only.key("bad-scope", organization=["alpha"], partner=[bad])


def test_a_key_needs_an_organization_a_known_role_and_a_free_name(
    read_only: ApiWarehouse,
) -> None:
    connection = database.connect(read_only.settings, autocommit=True)
    arguments = {"name": "once", "role": "reader", "scope": {"organization": ["alpha"]}}
    create_key(connection, **arguments)  # type: ignore[arg-type]
    for change, message in (
        ({}, "exists already"),
        ({"name": ""}, "the name '' is refused"),
        ({"role": "root"}, "no role 'root'"),
        ({"scope": {}}, "at least one organization"),
        ({"scope": {"organization": ["alpha"], "Bad-Name": ["x"]}}, "scope name"),
    ):
        with pytest.raises(ApiKeyError, match=message):
            create_key(connection, **(arguments | change))  # type: ignore[arg-type]
    (record,) = [item for item in list_keys(connection) if item.name == "once"]
    assert record.scope == {"organization": ["alpha"], "partner": ["*"]}
    connection.close()


@pytest.mark.parametrize(
    "scope",
    [
        "[]",
        "{}",
        '{"organization": "alpha"}',
        '{"organization": [1]}',
        '{"organization": ["a,b"]}',
        '{"organization": ["{*}"]}',
    ],
)
def test_a_scope_spoilt_in_the_table_gives_nothing(own: ApiWarehouse, scope: str) -> None:
    key = own.key("spoilt", organization=["*"])
    own.run("update metadata.principals set scope = %s where name = 'spoilt'", scope)
    body = json_of(own.client(key).get("daily-metrics"))
    assert body["data"] == []
    assert body["freshness"]["status"] == "never"
