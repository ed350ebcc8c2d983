"""The embedded server: made, started, stopped and found again, as root and as anybody."""

import multiprocessing
import os
import pwd
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clusters import make_folder, memory_disk
from warehouse import database, server, server_user
from warehouse.errors import DatabaseUnreachableError, OversightError, ServerError
from warehouse.settings import Settings

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root meets this")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short folder that every user may enter."""
    path = make_folder(memory_disk())
    yield path
    shutil.rmtree(path)


@pytest.fixture
def make() -> Iterator[Callable[[Path], Settings]]:
    """Settings of a home folder whose server is stopped in the end."""
    made: list[Settings] = []

    def settings(home: Path) -> Settings:
        made.append(Settings(project_dir=home.parent, home=home))
        return made[-1]

    yield settings
    for item in made:
        server.stop(item)


@pytest.fixture
def settings(folder: Path, make: Callable[[Path], Settings]) -> Settings:
    return make(folder / "home")


def _ask(settings: Settings, question: str) -> object:
    connection = database.connect(settings, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute(question)
            row = cursor.fetchone() if cursor.description is not None else None
            return row[0] if row else None
    finally:
        connection.close()


def _as_ordinary_user(action: Callable[[], None]) -> str:
    """Run something as nobody (or as we are, when not root); gives back its error's message."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child() -> None:
        if os.geteuid() == 0:
            account = pwd.getpwnam("nobody")
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        try:
            action()
        except Exception as error:
            sender.send(str(error) or repr(error))
        else:
            sender.send("")

    process = context.Process(target=child)
    process.start()
    process.join(120)
    assert receiver.poll(), "the child said nothing"
    return str(receiver.recv())


class TestStartAndStop:
    def test_a_started_server_answers_and_a_stopped_one_is_gone(self, settings: Settings) -> None:
        assert not server.is_running(settings)
        server.start(settings)
        assert server.is_running(settings)
        assert _ask(settings, "select current_database()") == "oversight"
        server.stop(settings)
        assert not server.is_running(settings)
        with pytest.raises(DatabaseUnreachableError, match="oversight db start"):
            database.connect(settings)

    def test_starting_and_stopping_twice_is_the_same_as_once(self, settings: Settings) -> None:
        server.start(settings)
        began = _ask(settings, "select pg_postmaster_start_time()")
        server.start(settings)
        assert _ask(settings, "select pg_postmaster_start_time()") == began
        server.stop(settings)
        server.stop(settings)

    def test_data_outlives_a_restart(self, settings: Settings) -> None:
        server.start(settings)
        _ask(settings, "create table kept as select 7 as number")
        server.stop(settings)
        server.start(settings)
        assert _ask(settings, "select number from kept") == 7

    def test_two_starts_at_once_give_one_server(self, settings: Settings) -> None:
        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(server.start, settings) for _ in range(2)]:
                future.result()
        assert server.is_running(settings)

    def test_a_killed_server_is_started_again_with_its_data(self, settings: Settings) -> None:
        server.start(settings)
        _ask(settings, "create table kept as select 7 as number")
        data = Path(str(_ask(settings, "show data_directory")))
        pid = int((data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        server.start(settings)
        assert _ask(settings, "select number from kept") == 7

    def test_a_pid_that_now_is_another_programs_is_no_server(self, settings: Settings) -> None:
        server.start(settings)
        data = Path(str(_ask(settings, "show data_directory")))
        pid_file = (data / "postmaster.pid").read_text()
        server.stop(settings)
        own = pid_file.replace(pid_file.split()[0], str(os.getpid()), 1)
        (data / "postmaster.pid").write_text(own)
        server.start(settings)
        assert server.is_running(settings)

    def test_a_killed_first_start_is_made_good(self, settings: Settings) -> None:
        partial = settings.home / "data.partial"
        partial.mkdir(parents=True)
        (partial / "half").write_text("of a cluster")
        server.start(settings)
        assert server.is_running(settings)
        assert not partial.exists()

    def test_data_of_another_version_is_refused(self, settings: Settings) -> None:
        server.start(settings)
        data = Path(str(_ask(settings, "show data_directory")))
        server.stop(settings)
        (data / "PG_VERSION").write_text("14\n")
        with pytest.raises(ServerError, match="made by PostgreSQL 14"):
            server.start(settings)
        (data / "PG_VERSION").write_text("18\n")


class TestPrivacy:
    def test_the_socket_folder_is_private_and_tcp_is_off(self, settings: Settings) -> None:
        server.start(settings)
        run = server_user.socket_dir(settings.home)
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        assert _ask(settings, "show listen_addresses") == ""
        assert stat.S_IMODE((run / ".s.PGSQL.5432").stat().st_mode) == 0o700

    def test_a_socket_folder_of_somebody_else_is_refused(self, settings: Settings) -> None:
        (settings.home / "run").mkdir(parents=True, mode=0o700)
        (settings.home / "run").chmod(0o777)
        with pytest.raises(ServerError, match="must belong to the server's user alone"):
            server.start(settings)
        (settings.home / "run").rmdir()

    def test_it_runs_as_an_ordinary_user(self, folder: Path) -> None:
        if not server_user.may_enter(server.bin_dir(), pwd.getpwnam("nobody")):
            pytest.skip("an ordinary user can't get to the programs here")
        folder.chmod(0o777)
        settings = Settings(project_dir=folder, home=folder / "home")

        def start_and_stop() -> None:
            server.start(settings)
            assert _ask(settings, "select current_user") == "postgres"
            server.stop(settings)

        assert _as_ordinary_user(start_and_stop) == ""
        assert stat.S_IMODE(settings.home.stat().st_mode) == 0o700


class TestFolders:
    def test_a_long_path_gets_a_short_private_socket_folder(
        self, folder: Path, make: Callable[[Path], Settings]
    ) -> None:
        settings = make(folder / ("long" * 20) / "home")
        (folder / ("long" * 20)).mkdir(mode=0o711)
        server.start(settings)
        run = server_user.socket_dir(settings.home)
        assert len(str(run)) < 40
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        assert _ask(settings, "select 1") == 1
        server.stop(settings)
        shutil.rmtree(run)

    def test_an_unwritable_folder_is_an_error_that_says_what_to_do(self, folder: Path) -> None:
        folder.chmod(0o555)
        settings = Settings(project_dir=folder, home=folder / "home")
        message = _as_ordinary_user(lambda: server.start(settings))
        assert f"can't make the folder {settings.home}" in message
        assert "OVERSIGHT_HOME" in message
        folder.chmod(0o755)

    @is_root
    def test_root_opens_nobodys_folder(
        self, folder: Path, make: Callable[[Path], Settings], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A home that the server's user can't enter, and programs neither, as below /root."""
        monkeypatch.setattr(server_user, "STATE_DIR", folder / "state")
        (folder / "state").mkdir(mode=0o755)
        closed = folder / "closed"
        closed.mkdir(mode=0o700)
        package = server.bin_dir().parent.parent
        shutil.copytree(package / "pginstall18", closed / package.name / "pginstall18")
        libraries = package.parent / f"{package.name}.libs"
        if libraries.exists():
            shutil.copytree(libraries, closed / libraries.name)
        programs = closed / package.name / "pginstall18" / "bin"
        settings = make(closed / "home")
        server.start(settings, programs=programs)
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        data = Path(str(_ask(settings, "show data_directory")))
        assert folder / "state" in data.parents
        assert data.stat().st_uid != 0
        server.start(settings, programs=programs)
        server.stop(settings, programs=programs)
        assert not server.is_running(settings)

    @is_root
    def test_root_runs_the_server_as_the_owner_of_the_data(
        self, folder: Path, make: Callable[[Path], Settings]
    ) -> None:
        account = pwd.getpwnam("nobody")
        folder.chmod(0o755)
        settings = make(folder / "home")
        (settings.home / "run").mkdir(parents=True, mode=0o700)
        data = settings.home / "data"
        server.start(settings.__class__(project_dir=folder, home=folder / "other"))
        server.stop(settings.__class__(project_dir=folder, home=folder / "other"))
        (folder / "other" / "data").rename(data)
        for path in (settings.home / "run", data, *data.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
        server.start(settings)
        pid = int((data / "postmaster.pid").read_text().split()[0])
        assert Path(f"/proc/{pid}").stat().st_uid == account.pw_uid


def test_an_unreachable_server_is_named_without_its_password(tmp_path: Path) -> None:
    settings = Settings(
        project_dir=tmp_path,
        home=tmp_path,
        database_url="postgresql://someone:secret@127.0.0.1:1/nowhere",
    )
    with pytest.raises(DatabaseUnreachableError) as caught:
        database.connect(settings)
    assert "127.0.0.1" in str(caught.value)
    assert "OVERSIGHT_DATABASE_URL" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_role_that_the_login_may_not_take_is_named(warehouse: Settings) -> None:
    with pytest.raises(OversightError, match="may not act as nobody_there"):
        database.connect(warehouse, role="nobody_there")
