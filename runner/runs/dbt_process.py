"""dbt's own processes: a parent that holds imports and parsed project, and a fork of it per run.

`python -m runner.runs.dbt_process warm PPID PROJECT TARGET FOLDER` parses the project, says
`{"ready": true}` and then reads a request per line of standard input,

    {"id": 1, "arguments": ["run", ...], "environment": {...}, "folder": "/its/own/target/path"}

answered by `{"id": 1, "pid": 123}` at once and `{"id": 1, "status": 0, "result": {...}}` when the
run has ended, whichever way. It has no threads, serves several runs at once and ends them when
standard input does. `python -m runner.runs.dbt_process once PPID PROJECT TARGET FOLDER` reads one
such request, runs it itself and writes its result. What dbt prints goes to `<folder>/output`.
"""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import os
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from runner.processes import end_with_parent

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

_FLAGS = ("--no-use-colors", "--log-level-file", "none", "--no-write-json", "--no-partial-parse")
_RUN_FLAGS = (*_FLAGS, "--cache-selected-only")
_READ_AGAIN = ("dbt_project.yml", "profiles.yml")
_CHUNK = 65536
_FAILED = ("error", "fail", "runtime error", "partial success")


class _Parent:
    """The thread-free process: `serve` returns when the daemon has gone."""

    def __init__(self, project: str, target: str, folder: str) -> None:
        self._project = project
        self._target = target
        self._answers = os.dup(1)
        self._runs: dict[int, tuple[int, int, bytearray]] = {}
        """By the pipe that a run alone holds the other end of: its id, process, result so far."""
        _print_to(folder)
        self._output = Path(folder) / "output"
        self._folder = folder

    def serve(self) -> None:
        manifest = self._parse()
        if manifest is None:
            self._answer(ready=False, output=self._output.read_text(errors="replace"))
            return
        self._answer(ready=True)
        waiting = b""
        preparation = _prepare(manifest)
        is_prepared = False
        while True:
            seconds = None if is_prepared else 0
            found, _, _ = select.select([0, *self._runs], [], [], seconds)
            if not found:
                is_prepared = next(preparation, True)
            for readable in found:
                if readable != 0:
                    self._read_result(readable)
                    continue
                chunk = os.read(0, _CHUNK)
                if not chunk:
                    return
                *lines, waiting = (waiting + chunk).split(b"\n")
                for line in lines:
                    self._fork(json.loads(line), manifest)

    def kill(self) -> None:
        """End every run that is under way."""
        for _, process, _ in self._runs.values():
            os.kill(process, signal.SIGKILL)

    def _parse(self) -> Manifest | None:
        from dbt.cli.main import dbtRunner
        from dbt.contracts.graph.manifest import Manifest

        # A run reads these again, and must find what the manifest was made from.
        for name in _READ_AGAIN:
            shutil.copy(Path(self._project) / name, self._folder)
        parsed = dbtRunner().invoke(
            [
                *(*_FLAGS, "--log-path", self._folder, "parse"),
                *_places(self._project, self._target, self._folder),
            ]
        )
        if isinstance(parsed.result, Manifest) and parsed.success:
            return parsed.result
        if parsed.exception is not None:
            os.write(2, f"{parsed.exception}\n".encode())
        return None

    def _fork(self, request: dict[str, Any], manifest: Manifest) -> None:
        result, write = os.pipe()
        parent = os.getpid()
        try:
            process = os.fork()
        except OSError as error:
            os.close(result)
            os.close(write)
            self._answer(id=request["id"], refused=str(error))
            return
        if process == 0:
            try:
                end_with_parent(parent, signal.SIGKILL)
                os.close(self._answers)
                _run(request, self._folder, self._target, write, manifest)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(write)
        self._runs[result] = (request["id"], process, bytearray())
        self._answer(id=request["id"], pid=process)

    def _read_result(self, pipe: int) -> None:
        run_id, process, result = self._runs[pipe]
        if chunk := os.read(pipe, _CHUNK):
            result.extend(chunk)
            return
        os.close(pipe)
        del self._runs[pipe]
        _, status = os.waitpid(process, 0)
        self._answer(
            id=run_id,
            status=os.waitstatus_to_exitcode(status),
            result=json.loads(result) if result else None,
        )

    def _answer(self, **answer: object) -> None:
        line = json.dumps(answer).encode() + b"\n"
        while line:
            line = line[os.write(self._answers, line) :]


def _prepare(manifest: Manifest) -> Iterator[bool]:
    """What every run would do again, done once, a little at a time while nobody waits."""
    from dbt_common.clients.jinja import template_cache

    for command in ("build", "list", "run", "test"):
        importlib.import_module(f"dbt.task.{command}")
        yield False
    for macro in sorted(manifest.macros.values(), key=lambda macro: macro.package_name == "dbt"):
        template_cache.get_node_template(macro)
        yield False
    # What is here to stay need not be looked at, and so copied, in every fork.
    gc.collect()
    gc.freeze()


def _run(
    request: dict[str, Any],
    project: str,
    target: str,
    result: int,
    manifest: Manifest | None = None,
) -> NoReturn:
    """One run of dbt in this process; its result goes to the pipe `result`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    folder = request["folder"]
    _print_to(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    from dbt.cli.main import dbtRunner

    done = dbtRunner(manifest=manifest).invoke(
        [
            *(*_RUN_FLAGS, "--log-path", folder, *request["arguments"]),
            *_places(project, target, folder),
        ]
    )
    failures = [
        f"{_name(node)}: {' '.join(str(node.message).split())}"
        for node in getattr(done.result, "results", ())
        if str(node.status) in _FAILED
    ]
    if done.exception is not None:
        text = " ".join(str(done.exception).split()) or type(done.exception).__name__
        failures.append(f"dbt: {text}")
    written = json.dumps({"success": done.success, "failures": failures}).encode()
    sys.stdout.flush()
    while written:
        written = written[os.write(result, written) :]
    os._exit(0 if done.success else 1)


def _name(node: Any) -> str:
    """The model's or test's own name; of a hook, which one it is."""
    return ".".join(node.node.unique_id.split(".")[2:3])


def _places(project: str, target: str, folder: str) -> tuple[str, ...]:
    return (
        *("--project-dir", project, "--profiles-dir", project),
        *("--target", target, "--target-path", folder),
    )


def _use_plain_locks() -> None:
    """dbt's locks are for threads only; of this kind they need no process that tidies up."""
    import dbt.mp_context

    dbt.mp_context._MP_CONTEXT = multiprocessing.get_context("fork")  # type: ignore[assignment]


def _print_to(folder: str) -> None:
    """Standard output and error go to the file `output` there."""
    descriptor = os.open(Path(folder) / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def main() -> None:
    """Serve, or run once, as the arguments say."""
    mode, daemon, project, target, folder = sys.argv[1:]
    end_with_parent(int(daemon), signal.SIGKILL)
    # A daemon blocks the signals that it waits for, and its children inherit that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    if hasattr(os, "fork"):
        _use_plain_locks()
    if mode == "once":
        result = os.dup(1)
        _run(json.loads(sys.stdin.readline()), project, target, result)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = _Parent(project, target, folder)
    try:
        parent.serve()
    finally:
        parent.kill()
        os._exit(0)


if __name__ == "__main__":
    main()
