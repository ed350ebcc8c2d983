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
from typing import Any

from runner.progress import Steps
from runner.runs.refresh import RefreshError, refresh
from runner.up.build import build, fingerprint, target_path
from runner.up.children import Child, ChildError, keep_running
from runner.up.first_use import (
    has_batches,
    load_all,
    make_home,
    make_raw_tables,
    make_signing_key,
    reader_key,
    simulate_demo,
)
from warehouse import database, migrate, server
from warehouse.catalogue import CatalogueError, deploy, deployed, read_catalogue
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
    with ExitStack() as stack, _Signals() as signals:
        try:
            _serve(settings, say, stack, signals)
        except _Ended:
            say("\nstopping")
        finally:
            signals.ignore()
            stack.close()
    say("stopped")


def _serve(
    settings: Settings, say: Callable[[str], None], stack: ExitStack, signals: "_Signals"
) -> None:
    steps = Steps()
    make_home(settings)
    stack.enter_context(_only_one(settings.home))
    check_port(settings.api_host, settings.api_port)
    if settings.is_embedded:
        with steps.step("starting PostgreSQL"), signals.held():
            if not server.is_running(settings):
                stack.callback(server.stop, settings)
            server.start(settings)
    with steps.step("migrating"):
        migrate.migrate(settings)
        make_signing_key(settings)
    is_built = _is_built(settings)
    with steps.step("checking the declarations"):
        catalogue = (
            read_catalogue(settings.project_dir)
            if is_built
            else deploy(settings, target_path(settings))
        )
        make_raw_tables(settings, catalogue)
    if settings.is_embedded and not has_batches(settings):
        # A server of one's own holds one's own data; nothing is made up there.
        with steps.step("simulating a reporting engine"):
            demo = simulate_demo(settings)
        with steps.step("loading its extracts"):
            load_all(settings, catalogue, demo)
    if is_built:
        _refresh(settings, steps, say)
    else:
        _build(settings, steps, say)
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
            )
            stack.callback(child.stop, seconds=seconds)
            children.append(child)
        _wait_until_ready(settings, children)
    say(_welcome(settings, key))
    if not has_batches(settings):
        say("\nNothing has landed yet: oversight load --path FOLDER, then oversight refresh.")
    keep_running(children, say)


def _is_built(settings: Settings) -> bool:
    """Whether exactly this project was built in this database and is what is served."""
    marker = settings.home / "built"
    if not marker.exists() or marker.read_text(encoding="ascii") != fingerprint(settings):
        return False
    connection = database.connect(settings, autocommit=True)
    try:
        served = deployed(connection).content_hash
    except CatalogueError:
        return False
    finally:
        connection.close()
    return served == read_catalogue(settings.project_dir).content_hash


def _build(settings: Settings, steps: Steps, say: Callable[[str], None]) -> None:
    """The first time and after changes: everything, with its tests."""
    with steps.step("building and testing the marts") as on_step:
        built = build(settings, on_step)
    if not built.failed_tests:
        (settings.home / "built").write_text(fingerprint(settings), encoding="ascii")
        return
    say(f"{len(built.failed_tests)} tests of the data fail; it is served all the same:")
    for text in built.failed_tests:
        say(f"  {text}")


def _refresh(settings: Settings, steps: Steps, say: Callable[[str], None]) -> None:
    """What landed while nothing ran; without it the last good rows are served."""
    try:
        with steps.step("refreshing the marts"):
            refresh(settings, job_name="up")
    except RefreshError as error:
        say(f"{error}\nThe last good rows are served.")


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

  status page   {base}/  (log in with the reader key)
  docs          {base}/docs
  marts         {marts}/marts
  daily         {marts}/daily-metrics
  weekly        {marts}/weekly-partner-performance
  parity        {marts}/metadata/parity
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


class _Signals:
    """Turns the signals that end a command into _Ended, later where it must not come now."""

    def __init__(self) -> None:
        self._is_held = False
        self._has_come = False
        self._before: list[tuple[signal.Signals, Any]] = []

    def __enter__(self) -> "_Signals":
        self._before = [(number, signal.signal(number, self._end)) for number in _ENDING]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """What is done inside is finished first."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._has_come:
            raise _Ended

    def ignore(self) -> None:
        """From here on everything is being stopped; asking again changes nothing."""
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._has_come = True
        if not self._is_held:
            raise _Ended
