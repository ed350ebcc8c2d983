"""The disk under the figures is full, the database is away: answers and figures go on."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pytest
from api_warehouse import ApiWarehouse, make_warehouse
from server_process import ServerProcess
from wire_proxy import WireProxy

from clusters import Cluster

DAILY = "/api/reporting/v1/daily-metrics"
MEGABYTES = 8


@pytest.fixture(scope="module")
def watched(server18: Cluster) -> Iterator[ApiWarehouse]:
    """A warehouse that is read only."""
    settings = server18.migrated_database()
    yield make_warehouse(server18, settings)
    server18.drop_database(Cluster.name_of(settings))


@pytest.fixture
def home() -> Iterator[Path]:
    """A home whose figures have a disk of their own, which nothing else can fill."""
    folder = Path(tempfile.mkdtemp(prefix="ov-figures-", dir="/tmp"))
    disk = folder / "metrics"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        shutil.rmtree(folder)
        pytest.skip("no disk can be mounted here (it needs root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def fill(disk: Path) -> None:
    """Write until nothing goes in any more."""
    with pytest.raises(OSError, match="No space left"), (disk / "ballast").open("wb") as file:
        while True:
            os.write(file.fileno(), b"x" * 4096)


def ask(server: ServerProcess, key: str, number: int) -> None:
    """Good and bad requests, answered as they should be."""
    for _ in range(number):
        assert server.get(DAILY, key)[0] == 200
        assert server.get(f"{DAILY}?page_size=x", key)[0] == 400
        assert server.get("/api/reporting/v1/metadata/refresh", key)[0] == 200
        assert server.get("/nothing", key)[0] == 404


def test_a_disk_that_is_full_at_the_start(watched: ApiWarehouse, home: Path) -> None:
    key = watched.key("full at the start", role="operator", organization=["*"])
    fill(home / "metrics")
    server = ServerProcess(watched, home / "log", OVERSIGHT_HOME=str(home))
    try:
        server.wait_until_ready()
        workers = server.children()
        ask(server, key, 30)
        assert "oversight_http_requests_total" in server.text("/metrics", key)
        assert server.children() == workers
        assert "each process counts alone" in server.log.read_text(), "the fault has landed"
    finally:
        server.stop()


def test_a_disk_that_fills_up_ends_no_process(watched: ApiWarehouse, home: Path) -> None:
    """A page of a mapped file that has no place on the disk would be a SIGBUS."""
    key = watched.key("full later", role="operator", organization=["*"])
    server = ServerProcess(watched, home / "log", OVERSIGHT_HOME=str(home))
    try:
        server.wait_until_ready()
        workers = server.children()
        fill(home / "metrics")
        ask(server, key, 50)
        assert server.children() == workers
        text = server.text("/metrics", key)
        assert (
            f'oversight_http_requests_total{{method="GET",route="{DAILY}",status="200"}} 50' in text
        )
    finally:
        server.stop()


def test_the_scrape_goes_on_while_the_database_is_away(
    watched: ApiWarehouse, server18: Cluster, tmp_path: Path
) -> None:
    key = watched.key("away", role="operator", organization=["*"])
    url = watched.settings.api_database_url
    assert url is not None
    with (
        TemporaryDirectory(prefix="ov-wire-", dir="/tmp") as folder,
        WireProxy(Path(folder), server18.settings.home / "run") as proxy,
    ):
        address = url.split("?")[0] + f"?host={quote(folder, safe='')}&port=5432"
        proxied = replace(watched, settings=replace(watched.settings, api_database_url=address))
        server = ServerProcess(
            proxied, tmp_path / "log", OVERSIGHT_HOME=str(tmp_path), OVERSIGHT_API_WORKERS="1"
        )
        try:
            server.wait_until_ready()
            assert server.get(DAILY, key)[0] == 200
            assert "\noversight_database_up 1" in server.text("/metrics", key)
            proxy.cut_off()
            time.sleep(5)  # Longer than a key is remembered while the database is there.
            text = server.text("/metrics", key)
            assert "\noversight_database_up 0" in text, "the fault has landed"
            assert f'route="{DAILY}",status="200"' in text
            assert "oversight_mart_freshness_state" not in text
            proxy.start()
            deadline = time.monotonic() + 30
            while "\noversight_database_up 1" not in server.text("/metrics", key):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            server.stop()
