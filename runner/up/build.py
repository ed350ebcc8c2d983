"""The whole dbt project, built and tested, for `oversight up`: what a first start needs."""

import hashlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from warehouse import dbt
from warehouse.errors import OversightError
from warehouse.settings import Settings

_STEP = re.compile(r"^\S*\s*(\d+) of (\d+) (?!START)")
_INPUTS = ("macros", "models", "seeds", "snapshots", "tests/generic", "tests/parity",
           "tests/integrity")  # fmt: skip
_TEST_STATES = ("fail", "warn")
_TAIL_LINES = 20
_CANCEL_SECONDS = 5


class BuildError(OversightError):
    """dbt could not build the project; the message holds dbt's own errors."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """How a build ended: what it did, and what the failing tests say."""

    succeeded: int
    failed_tests: tuple[str, ...]


def build(settings: Settings, on_step: Callable[[int, int], None]) -> Build:
    """Run `dbt build`; `on_step` is told (done, of how many) as it goes.

    Failing tests are in the result, since what is served then says so itself (parity) or stays as
    it was. Raises BuildError when a model could not be built.
    """
    target = target_path(settings)
    results = target / "run_results.json"
    results.unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "dbt.cli.main", "--no-use-colors", "build"),
        *("--target", dbt.target(settings), "--target-path", str(target)),
    ]
    lines: list[str] = []
    with subprocess.Popen(
        command,
        cwd=settings.project_dir,
        env=dbt.environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                if step := _STEP.match(line):
                    on_step(int(step[1]), int(step[2]))
        except BaseException:
            _cancel(process)
            raise
    return _outcome(results, process.returncode, lines)


def _cancel(process: "subprocess.Popen[str]") -> None:
    """Only SIGINT makes dbt cancel its query in the database."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_CANCEL_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def target_path(settings: Settings) -> Path:
    """Where dbt keeps what it parsed and how builds ended."""
    return settings.home / "target"


def fingerprint(settings: Settings) -> str:
    """A hash of everything that dbt builds from, to know whether a build would change anything."""
    digest = hashlib.sha256()
    paths = [settings.project_dir / "dbt_project.yml"]
    for name in _INPUTS:
        paths.extend(sorted((settings.project_dir / name).rglob("*")))
    for path in paths:
        if path.is_file():
            digest.update(str(path.relative_to(settings.project_dir)).encode() + b"\0")
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update(dbt.instance_id(settings).encode())
    return digest.hexdigest()


def _outcome(results: Path, status: int, lines: list[str]) -> Build:
    output = "\n".join(lines[-_TAIL_LINES:])
    try:
        nodes = json.loads(results.read_text(encoding="utf-8"))["results"]
    except (OSError, ValueError, KeyError) as error:
        raise BuildError(f"dbt ended before it built anything:\n{output}") from error
    errors = [_text(node) for node in nodes if node["status"] in ("error", "runtime error")]
    failed = tuple(_text(node) for node in nodes if node["status"] in _TEST_STATES)
    if errors or (status != 0 and not failed):
        reasons = "\n".join(f"  {text}" for text in errors) or output
        raise BuildError(f"dbt could not build the project:\n{reasons}")
    return Build(
        succeeded=sum(node["status"] in ("success", "pass") for node in nodes), failed_tests=failed
    )


def _text(node: dict[str, object]) -> str:
    name = ".".join(str(node["unique_id"]).split(".")[2:3])
    return f"{name}: {' '.join(str(node['message']).split())}"
