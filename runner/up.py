"""`oversight up`: everything started in order, served in the foreground, and stopped in order."""

import fcntl
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from runner.build import build, fingerprint, target_path
from runner.children import Child, ChildError, wait_for_end
from runner.first_use import (
    has_batches,
    load_all,
    make_home,
    make_raw_tables,
    make_signing_key,
    reader_key,
    simulate_demo,
)
from runner.progress import Steps
from runner.refresh import refresh
from warehouse import migrate, server
from warehouse.catalogue import Catalogue, deploy
from warehouse.errors import OversightError
from warehouse.settings import Settings

_READY_SECONDS = 60
_STOP_API_SECONDS = 15
_STOP_SCHEDULER_SECONDS = 60
_ANY_ADDRESS = ("0.0.0.0", "::", "")
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class UpError(OversightError):
    """What `oversight up` needs is not to be had; the message says what to do."""


class _Ended(BaseException):
    """A signal asked to end; no handler of ordinary errors may swallow it."""


def serve_everything(settings: Settings, say: Callable[[str], None]) -> None:
    """Start the server, migrate, load, build, serve and schedule; return when asked to stop.

    Whatever ends it, all that it started is stopped, newest first. A server that was running
    before is left running. Raises an OversightError when something can't start or ends by itself.
    """
    with ExitStack() as stack, _signals_end_it():
        try:
            _serve(settings, say, stack)
        except _Ended:
            say("\nstopping")
        finally:
            for number in _ENDING:
                signal.signal(number, signal.SIG_IGN)
            stack.close()
    say("stopped")


def _serve(settings: Settings, say: Callable[[str], None], stack: ExitStack) -> None:
    steps = Steps()
    make_home(settings)
    stack.enter_context(_only_one(settings.home))
    check_port(settings.api_host, settings.api_port)
    if settings.is_embedded:
        with steps.step("starting PostgreSQL"):
            if not server.is_running(settings):
                stack.callback(server.stop, settings)
            server.start(settings)
    with steps.step("migrating"):
        migrate.migrate(settings)
        make_signing_key(settings)
    with steps.step("deploying the declarations"):
        catalogue = deploy(settings, target_path(settings))
        make_raw_tables(settings, catalogue)
    _fill(settings, catalogue, steps, say)
    key = reader_key(settings)
    children: list[Child] = []
    with steps.step("starting API and scheduler"):
        for name, command, seconds in (
            ("API", "serve", _STOP_API_SECONDS),
            ("scheduler", "schedule", _STOP_SCHEDULER_SECONDS),
        ):
            child = Child.start(
                name,
                ["runner.cli", command],
                log_dir=settings.home / "logs",
                cwd=settings.project_dir,
            )
            stack.callback(child.stop, seconds=seconds)
            children.append(child)
        _wait_until_ready(settings, children)
    say(_welcome(settings, key))
    wait_for_end(children)


def _fill(
    settings: Settings, catalogue: Catalogue, steps: Steps, say: Callable[[str], None]
) -> None:
    """Demo extracts where nothing landed; a build where the project changed, else a refresh."""
    if not has_batches(settings):
        with steps.step("simulating a reporting engine"):
            demo = simulate_demo(settings)
        with steps.step("loading its extracts"):
            load_all(settings, catalogue, demo)
    marker = settings.home / "built"
    wanted = fingerprint(settings)
    if marker.exists() and marker.read_text(encoding="ascii") == wanted:
        with steps.step("refreshing what landed since"):
            refresh(settings, job_name="up")
        return
    with steps.step("building and testing the marts") as on_step:
        built = build(settings, on_step)
    if built.failed_tests:
        say(f"{len(built.failed_tests)} tests of the data fail; it is served all the same:")
        for text in built.failed_tests:
            say(f"  {text}")
    else:
        marker.write_text(wanted, encoding="ascii")


def check_port(host: str, port: int) -> None:
    """Find out before the long work whether the API will be able to listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UpError(
                f"can't listen on {host} port {port}: {error.strerror}; stop what uses it, or "
                "set OVERSIGHT_API_PORT (or OVERSIGHT_API_HOST) to something else"
            ) from error


def _wait_until_ready(settings: Settings, children: Sequence[Child]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        for child in children:
            child.check()
        try:
            with urllib.request.urlopen(f"{base_url(settings)}/health/ready", timeout=5):
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise ChildError(
                    f"the API is not ready after {_READY_SECONDS} s ({error}); "
                    f"the end of {children[0].log}:\n{children[0].tail()}"
                ) from error
            time.sleep(0.1)


def base_url(settings: Settings) -> str:
    """How to reach the API from this machine."""
    host = "127.0.0.1" if settings.api_host in _ANY_ADDRESS else settings.api_host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.api_port}"


def _welcome(settings: Settings, key: str) -> str:
    base = base_url(settings)
    marts = f"{base}/api/reporting/v1"
    return f"""
Oversight is serving.

  marts         {marts}/marts
  daily         {marts}/daily-metrics
  weekly        {marts}/weekly-partner-performance
  parity        {marts}/metadata/parity
  description   {base}/openapi.json
  health        {base}/health/ready
  reader key    {key}
                (also in {settings.home / "reader.key"})
  logs          {settings.home / "logs"}

Try:

  curl -s -H "Authorization: Bearer {key}" "{marts}/daily-metrics?page_size=3"

Ctrl-C stops everything."""


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """One `up` per home folder; the lock goes with the process, however that ends."""
    with (home / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UpError(
                f"another `oversight up` serves {home}; stop it with Ctrl-C in its terminal, or "
                "set OVERSIGHT_HOME and OVERSIGHT_API_PORT to run a second warehouse"
            ) from error
        yield


@contextmanager
def _signals_end_it() -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        raise _Ended

    before = [(number, signal.signal(number, end)) for number in _ENDING]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
