"""What README.md says about adding Oversight to an agent's host can be pasted as it stands."""

from __future__ import annotations

import ast
import json
import re
import shlex
from typing import Any

from documents import read_docs

from api.mcp.http import PATH
from runner.commands.mcp import mcp

README = read_docs()
SECTION = README.split("## AI agents")[1].split("\n## ")[0]
OPTIONS = {name: option for option in mcp.params for name in option.opts}
URL = f"http://127.0.0.1:{OPTIONS['--port'].default}{PATH}"


def configurations() -> list[dict[str, Any]]:
    """What goes into the files of hosts."""
    found = [json.loads(block) for block in blocks("json")]
    return [item.get("mcpServers") or item["servers"] for item in found]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)


def test_each_configuration_starts_the_command_or_names_its_address() -> None:
    found = [item["oversight"] for item in configurations()]
    assert len(found) == 3
    for server in found:
        if "command" in server:
            assert server["command"].endswith("/.venv/bin/oversight")
            assert server["args"] == [mcp.name]
            assert set(server["env"]) == {"OVERSIGHT_API_KEY_FILE"}
        else:
            assert server["url"] == URL
            assert server["headers"]["Authorization"].startswith("Bearer ${")


def test_each_command_line_says_what_the_configurations_say() -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) == 2
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["claude", "mcp", "add"]
        assert words[-2:] == ["$PWD/.venv/bin/oversight", mcp.name] or URL in words


def test_the_python_and_the_options_are_such() -> None:
    (code,) = blocks("python")
    ast.parse(re.sub(r"^async with", "with", code, flags=re.MULTILINE))
    assert URL in code
    assert URL in SECTION.split("`oversight mcp --http` serves")[1][:60]
    named = set(re.findall(r"`(--[a-z-]+)`", SECTION))
    assert named == {"--host", "--allow-host"}
    assert named <= set(OPTIONS)
