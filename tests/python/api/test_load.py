"""Many callers at once on few connections: everyone gets his own rows, or a 503 in time."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from api_traffic import tell
from api_warehouse import ApiWarehouse, Client, json_of
from known_answers import until

from api.app import create_app
from api.state import Limits
from warehouse import database

_WAITING = (
    "select from pg_stat_activity where datname = current_database()"
    " and application_name = 'oversight-api' and wait_event_type = 'Lock'"
)


def test_32_threads_on_two_connections_see_their_own_rows_only(read_only: ApiWarehouse) -> None:
    app = create_app(read_only.settings, limits=Limits(pool_size=2, pool_wait_seconds=60))
    keys = {
        organization: read_only.key(f"crowd {organization}", organization=[organization])
        for organization in ("alpha", "beta")
    }

    def read(number: int) -> tuple[str, int]:
        organization = ("alpha", "beta")[number % 2]
        client = Client(app.test_client(), keys[organization])
        body = json_of(client.get("daily-metrics", from_="2026-10-30", to="2026-10-30"))
        return organization, sum(int(row["spend"]) for row in body["data"])

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(read, range(640)))
    assert len(answers) == 640
    assert set(answers) == {("alpha", 59 + 60 + 61), ("beta", 2 * (59 + 60 + 61))}


def test_a_busy_pool_is_a_503_in_time(own: ApiWarehouse) -> None:
    """One who waited longer would get the connection of the read that times out, and be a 200."""
    limits = Limits(
        pool_size=1,
        pool_wait_seconds=0.2,
        statement_timeout_ms=4_000,
        remember_keys_seconds=60,
        remember_catalogue_seconds=60,
    )
    client = own.client(own.key("busy", organization=["alpha"]), limits)
    assert client.get("daily-metrics").status_code == 200
    with _locked(own, "reporting.daily_metrics"), ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.get, "daily-metrics")
        until(lambda: own.run(_WAITING))
        started = time.monotonic()
        busy = client.get("weekly-partner-performance")
        tell(f"busy: refused after {time.monotonic() - started:.2f} s")
        timed_out = first.result()
    for response, code in ((busy, "busy"), (timed_out, "timeout")):
        assert response.status_code == 503
        assert response.json is not None
        assert response.json["type"] == f"urn:oversight:problem:{code}"
        assert int(response.headers["Retry-After"]) >= 1
    assert client.get("daily-metrics").status_code == 200


def test_a_key_being_changed_does_not_hold_up_its_readers(own: ApiWarehouse) -> None:
    client = own.client(own.key("changing", organization=["alpha"]))
    connection = database.connect(own.settings)
    try:
        with connection.cursor() as cursor:
            cursor.execute("update metadata.principals set revoked_at = now()")
            assert client.get("marts").status_code == 200, "held up, it times out"
    finally:
        connection.close()


@contextmanager
def _locked(warehouse: ApiWarehouse, table: str) -> Iterator[None]:
    connection = database.connect(warehouse.settings)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"lock table {table} in access exclusive mode")
            yield
    finally:
        connection.close()
