"""Programs for Node.js that tests call: `.ci/npm/install` gets them, else a test is skipped."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oversight-npm"


def npm_tool(package: str, program: str) -> list[str]:
    """The start of a command line: Node.js and the script of a package's program."""
    if not (FOLDER / "installed.json").is_file():
        pytest.skip(f"{package} is not installed; .ci/npm/install gets it where there is npm")
    folder = FOLDER / "node_modules" / package
    programs = json.loads((folder / "package.json").read_text(encoding="utf-8"))["bin"]
    node = FOLDER / "node_modules/node/bin/node"
    return [str(node), str(folder / (programs if isinstance(programs, str) else programs[program]))]
