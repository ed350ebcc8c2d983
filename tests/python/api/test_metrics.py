"""GET /metrics: what is counted, for whom it is, and that worker processes count together."""

import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from api_warehouse import ApiWarehouse, Client, make_warehouse
from known_answers import until
from server_process import ServerProcess

from api.app import create_app
from api.watching.metrics import Metrics
from clusters import Cluster
from warehouse import database
from warehouse.settings import RateLimit

DAILY = "/api/reporting/v1/daily-metrics"
PROMTOOL = shutil.which("promtool")


@pytest.fixture
def operator(read_only: ApiWarehouse) -> Client:
    """Sees all organizations and may operate."""
    return read_only.client(operators_key(read_only))


def operators_key(warehouse: ApiWarehouse) -> str:
    return warehouse.key(f"prometheus {time.time_ns()}", role="operator", organization=["*"])


def figures(text: str) -> dict[str, float]:
    """Each sample by its name and labels."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def scraped(client: Client) -> dict[str, float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    return figures(answer.text)


def ask(client: Client, path: str, method: str = "GET") -> None:
    client.flask.open(path, method=method, headers=client.headers()).close()


def requests(route: str, status: int, method: str = "GET") -> str:
    return f'oversight_http_requests_total{{method="{method}",route="{route}",status="{status}"}}'


def test_requests_are_counted_by_the_route_as_declared(operator: Client) -> None:
    for path in (DAILY, f"{DAILY}?page_size=1", f"{DAILY}?page_size=x", "/health/live"):
        ask(operator, path)
    for path in ("/etc/passwd", "/api/reporting/v1/daily-metrics/x", "/api/reporting/v1/no"):
        ask(operator, path)
    ask(operator, "/also/nothing", "BREW")
    found = scraped(operator)
    assert found[requests(DAILY, 200)] == 2
    assert found[requests(DAILY, 400)] == 1
    assert found[requests("/health/live", 200)] == 1
    assert found[requests("(none)", 404)] == 3
    assert found[requests("(none)", 404, "(other)")] == 1
    assert found[f'oversight_http_request_duration_seconds_count{{route="{DAILY}"}}'] == 3
    assert found['oversight_http_problems_total{problem="invalid-parameter"}'] == 1
    assert found['oversight_http_problems_total{problem="not-found"}'] == 4
    assert found["oversight_http_requests_in_flight"] == 1, "the scrape itself"


def test_the_pool_is_seen_while_it_is_exhausted(own: ApiWarehouse) -> None:
    client = own.client(own.key("ops", role="operator", organization=["*"]))
    assert scraped(client)["oversight_pool_connections_max"] == 8
    holding = database.connect(own.settings)
    with holding.cursor() as cursor:
        cursor.execute("lock table reporting.daily_metrics")
    asking = [threading.Thread(target=ask, args=(client, DAILY)) for _ in range(7)]
    for thread in asking:
        thread.start()
    in_use = "oversight_pool_connections_in_use"
    try:
        until(lambda: scraped(client)[in_use] == 7)
        assert scraped(client)["oversight_pool_requests_waiting"] == 0
    finally:
        holding.close()
        for thread in asking:
            thread.join()
    assert scraped(client)[in_use] == 0


def test_the_warehouse_is_seen_and_no_organization(operator: Client) -> None:
    text = operator.get("/metrics").text
    found = figures(text)
    assert "alpha" not in text
    assert "beta" not in text
    assert found["oversight_database_up"] == 1
    assert found['oversight_mart_freshness_sla_seconds{mart="daily_metrics"}'] == 900
    assert found['oversight_mart_freshness_sla_seconds{mart="weekly_partner_performance"}'] == 3600
    assert 'oversight_mart_last_success_timestamp_seconds{mart="daily_metrics"}' in found
    assert 'oversight_mart_freshness_lag_seconds{mart="daily_metrics"}' in found
    for mart in ("daily_metrics", "operations", "weekly_partner_performance"):
        states = [
            found[f'oversight_mart_freshness_state{{mart="{mart}",state="{state}"}}']
            for state in ("fresh", "late", "never")
        ]
        assert sorted(states) == [0, 0, 1], mart
    assert found["oversight_runner_leader_up"] == 0
    assert found["oversight_backfills_open"] == 0
    assert found['oversight_alerts_firing{severity="critical"}'] >= 0


def test_a_late_organization_makes_its_mart_late_and_a_leader_is_up(own: ApiWarehouse) -> None:
    client = own.client(own.key("ops", role="operator", organization=["*"]))
    late = 'oversight_mart_freshness_state{mart="daily_metrics",state="late"}'
    waiting = 'oversight_mart_waiting_seconds{mart="daily_metrics"}'
    before = scraped(client)
    assert (before[late], before[waiting]) == (0, 0)
    own.run(
        "insert into metadata.held_keys (model, organization_id, held_since, key)"
        " values ('daily_metrics', 'beta', now() - interval '1 day', '{}')"
    )
    own.run("update metadata.leadership set runner = 'here', heartbeat_at = now()")
    found = scraped(client)
    assert found[late] == 1
    assert 86_400 <= found[waiting] < 86_700
    assert found["oversight_runner_leader_up"] == 1


def test_refusals_are_counted_by_tier(read_only: ApiWarehouse, tmp_path: Path) -> None:
    one = dict.fromkeys(("standard", "enterprise"), RateLimit(amount=1, seconds=3600))
    settings = replace(read_only.settings, rate_limits=one, home=tmp_path)
    app = create_app(settings)
    limited = Client(app.test_client(), operators_key(read_only))
    assert [limited.get("marts").status_code for _ in range(3)] == [200, 429, 429]
    found = scraped(Client(app.test_client(), operators_key(read_only)))
    assert found['oversight_rate_limit_refusals_total{tier="standard"}'] == 2
    assert found['oversight_http_problems_total{problem="rate-limited"}'] == 2
    assert found[requests("/api/reporting/v1/marts", 429)] == 2


@pytest.mark.parametrize(
    ("role", "organization", "status"),
    [("reader", "*", 403), ("agent", "*", 403), ("operator", "alpha", 403), ("admin", "*", 200)],
)
def test_it_is_for_operators_of_all_organizations(
    read_only: ApiWarehouse, role: str, organization: str, status: int
) -> None:
    key = read_only.key(f"scrape {time.time_ns()}", role=role, organization=[organization])
    assert read_only.client(key).get("/metrics").status_code == status


def test_its_format_is_what_prometheus_checks(operator: Client) -> None:
    if PROMTOOL is None:
        pytest.skip("promtool (Debian's package prometheus) is not here")
    for path in (DAILY, f"{DAILY}?x=1", "/none"):
        ask(operator, path)
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"],
        input=operator.get("/metrics").text,
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_percentiles_are_those_of_the_buckets() -> None:
    metrics = Metrics()
    for seconds, times in ((0.0005, 50), (0.02, 45), (0.2, 5)):
        for _ in range(times):
            metrics.answered("/x", "GET", 200, seconds)
    (latency,) = metrics.latency().values()
    assert latency.requests == 100
    assert latency.p50 == pytest.approx(0.001)
    assert latency.p95 == pytest.approx(0.025)
    assert 0.1 < latency.p99 <= 0.25


def test_what_callers_send_cannot_make_figures_without_end() -> None:
    metrics = Metrics()
    for number in range(3000):
        metrics.answered(f"/{number}", "GET", 200, 0.1)
    names = {str(sample) for metric in metrics.collect() for sample in metric.samples}
    assert len(names) < 20_000
    assert metrics.latency()["(other)"].requests == 2000


@pytest.fixture
def served(server18: Cluster, tmp_path: Path) -> Iterator[tuple[ServerProcess, ApiWarehouse]]:
    """A server with a home of its own."""
    settings = server18.migrated_database()
    warehouse = make_warehouse(server18, settings)
    server = ServerProcess(warehouse, tmp_path / "log", OVERSIGHT_HOME=str(tmp_path / "home"))
    try:
        server.wait_until_ready()
        yield server, warehouse
    finally:
        if server.process.poll() is None:
            server.stop()
        server18.drop_database(Cluster.name_of(settings))


def scrape(server: ServerProcess, key: str) -> dict[str, float]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics")
    request.add_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=30) as response:
        return figures(response.read().decode())


def test_worker_processes_count_together_and_go_on_where_a_dead_one_stopped(
    served: tuple[ServerProcess, ApiWarehouse], tmp_path: Path
) -> None:
    server, warehouse = served
    key = operators_key(warehouse)

    def ask_many(number: int) -> None:
        with ThreadPoolExecutor(8) as threads:
            assert {
                status for status, _ in threads.map(lambda _: server.get(DAILY, key), range(number))
            } == {200}

    ask_many(200)
    assert len({line["process"] for line in server.requests()}) == 2
    found = scrape(server, key)
    assert found[requests(DAILY, 200)] == 200
    reads = [found.get(f'oversight_answer_cache_requests_total{{result="{result}"}}', 0)
             for result in ("hit", "miss", "bypass")]  # fmt: skip
    assert sum(reads) == 200
    assert reads[0] > 0
    assert found["oversight_answer_cache_bytes"] > 0
    folder = tmp_path / "home" / "metrics" / str(server.port)
    files = sorted(path.name for path in folder.iterdir())
    for _ in range(2):
        killed = min(server.children())
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while killed in server.children() or len(server.children()) != 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        server.wait_until_ready()
        while scrape(server, key)["oversight_http_workers"] != 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    found = scrape(server, key)
    assert found[requests(DAILY, 200)] == 200
    assert found["oversight_http_requests_in_flight"] == 1
    ask_many(50)
    assert scrape(server, key)[requests(DAILY, 200)] == 250
    assert sorted(path.name for path in folder.iterdir()) == files, "no file of a dead worker"
    if PROMTOOL is not None:
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics")
        request.add_header("Authorization", f"Bearer {key}")
        with urllib.request.urlopen(request) as response:
            subprocess.run([PROMTOOL, "check", "metrics"], input=response.read(), check=True)


def test_a_new_server_counts_from_nothing(
    served: tuple[ServerProcess, ApiWarehouse], tmp_path: Path
) -> None:
    server, warehouse = served
    key = operators_key(warehouse)
    server.get(DAILY, key)
    assert scrape(server, key)[requests(DAILY, 200)] == 1
    server.stop()
    again = ServerProcess(
        warehouse,
        tmp_path / "log2",
        OVERSIGHT_HOME=str(tmp_path / "home"),
        OVERSIGHT_API_PORT=str(server.port),
    )
    again.port = server.port
    try:
        again.wait_until_ready()
        assert requests(DAILY, 200) not in scrape(again, key)
    finally:
        again.stop()
