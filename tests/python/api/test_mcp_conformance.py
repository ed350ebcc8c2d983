"""The protocol's own conformance suite against the tools over HTTP."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_warehouse import ApiWarehouse
from key_proxy import KeyProxy
from mcp_process import McpServer
from npm_tools import npm_tool

# Not named .yml: below tests/ that is a declaration of the dbt project.
EXCUSED = Path(__file__).with_name("mcp_conformance.txt")
SECONDS = 60


@pytest.fixture(scope="module")
def address(read_only: ApiWarehouse, running_mcp: McpServer) -> Iterator[str]:
    """Where the suite finds the tools: it can't send a key."""
    proxy = KeyProxy(running_mcp.port, read_only.key("conformance", organization=["alpha"]))
    yield f"http://127.0.0.1:{proxy.port}/mcp"
    proxy.stop()


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_what_a_revision_requires_is_met(address: str, revision: str, tmp_path: Path) -> None:
    """The suite itself fails for a check that is excused and passes, too."""
    excused = tmp_path / "excused.yml"
    excused.write_text(EXCUSED.read_text(encoding="utf-8"), encoding="utf-8")
    ended = subprocess.run(
        [
            *npm_tool("@modelcontextprotocol/conformance", "conformance"),
            *("server", "--url", address, "--requirements", revision),
            *("--expected-failures", str(excused), "--output-dir", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr
    checks = {
        file.parent.name: json.loads(file.read_text(encoding="utf-8"))
        for file in tmp_path.glob("*/checks.json")
    }
    passed = [check for found in checks.values() for check in found if check["status"] == "SUCCESS"]
    assert len(passed) > 30
    headers = [found for name, found in checks.items() if "http-header-validation" in name]
    # The suite runs these without judging them; they came after the revision.
    assert [check for found in headers for check in found if check["status"] != "SUCCESS"] == []
    assert len(headers) == (revision == "2026-07-28")
