"""A read is one message to the database, and it says which request it is of."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pytest
from api_warehouse import ApiWarehouse, json_of
from known_answers import until
from wire_proxy import WireProxy

from api.state import Limits
from clusters import Cluster

REMEMBERING = Limits(remember_keys_seconds=60, remember_catalogue_seconds=60)


@pytest.fixture
def proxy(server18: Cluster) -> Iterator[WireProxy]:
    """A proxy before the tests' server, in a folder with a short name."""
    with (
        TemporaryDirectory(prefix="ov-wire-", dir="/tmp") as folder,
        WireProxy(Path(folder), server18.settings.home / "run") as proxy,
    ):
        yield proxy


@pytest.fixture
def proxied(read_only: ApiWarehouse, proxy: WireProxy) -> ApiWarehouse:
    """The shared warehouse, whose API speaks through the proxy."""
    url = read_only.settings.api_database_url
    assert url is not None
    address = url.split("?")[0] + f"?host={quote(str(proxy.folder), safe='')}&port=5432"
    return replace(read_only, settings=replace(read_only.settings, api_database_url=address))


def test_a_read_is_one_message(proxied: ApiWarehouse, proxy: WireProxy) -> None:
    client = proxied.client(proxied.key("one trip", organization=["alpha"]), REMEMBERING)
    token = json_of(client.get("daily-metrics", page_size=3))["next_page"]
    assert len(proxy.messages) == 3, "the first request looks up the key and the catalogue"
    proxy.messages.clear()
    for path, query in (
        ("daily-metrics", {}),
        ("daily-metrics", {"page_size": "3", "page": token}),
        (
            "daily-metrics",
            {"from_": "2026-09-01", "to": "2026-09-30", "partner_id": "reddit_ads:1"},
        ),
        ("weekly-partner-performance", {"week": "2026-W40"}),
        ("metadata/parity", {}),
        ("metadata/refresh", {}),
        ("marts", {}),
    ):
        json_of(client.get(path, None, **query))
        assert proxy.messages == [b"Q"], path
        proxy.messages.clear()
    assert client.get("daily-metrics", nonsense="1").status_code == 400
    assert proxy.messages == []


def test_the_message_names_the_request_and_is_read_only(
    proxied: ApiWarehouse, proxy: WireProxy
) -> None:
    client = proxied.client(proxied.key("named", organization=["alpha"]), REMEMBERING)
    client.get("daily-metrics", {"X-Request-Id": "trace-77"})
    text = proxy.texts[-1]
    assert text.startswith("/*request_id='trace-77',traceparent='00-")
    assert text.index("set transaction read only") < text.index("set local role")
    assert text.index("set local role") < text.index('from "reporting"')


def test_a_pooled_connection_keeps_nothing_of_a_caller(proxied: ApiWarehouse) -> None:
    client = proxied.client(proxied.key("kept", organization=["alpha"]), REMEMBERING)
    json_of(client.get("daily-metrics"))
    pool = client.flask.application.extensions["oversight"].pool
    row = pool.read(
        "select current_user, current_setting('oversight.scope_organization', true),"
        " current_setting('transaction_read_only'), current_setting('statement_timeout')"
    )
    assert row == ("oversight_api", "", "off", "0")


def test_a_database_that_went_away_is_a_503_and_comes_back(
    proxied: ApiWarehouse, proxy: WireProxy
) -> None:
    client = proxied.client(proxied.key("away", organization=["alpha"]), REMEMBERING)
    assert client.get("daily-metrics").status_code == 200
    proxy.cut_off()
    for path in ("daily-metrics", "/health/ready"):
        response = client.get(path)
        assert response.status_code == 503
        assert response.json is not None
        assert response.json["type"] == "urn:oversight:problem:database-unavailable"
        assert "Retry-After" in response.headers
        assert "sock" not in response.text
    assert client.get("/health/live").status_code == 200
    proxy.start()
    until(lambda: client.get("/health/ready").status_code == 200)
    assert client.get("daily-metrics").status_code == 200


def test_connections_that_the_server_ended_are_not_noticed(proxied: ApiWarehouse) -> None:
    client = proxied.client(proxied.key("ended", organization=["alpha"]), REMEMBERING)
    assert client.get("daily-metrics").status_code == 200
    ended = proxied.run(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where application_name = 'oversight-api' and datname = current_database()"
    )
    assert ended != [(0,)]
    assert client.get("daily-metrics").status_code == 200
