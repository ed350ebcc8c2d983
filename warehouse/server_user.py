"""Who runs the embedded server and where, because PostgreSQL refuses to run as root.

As an ordinary user everything lies in the home folder. As root the server runs as the owner of
the data folder, at first a system user made for it. No parent folder's permissions are opened:
where that user can't get to the home folder or to the programs (a checkout below /root, say),
data, socket and a copy of the programs lie in /var/lib/oversight-<hash of the home folder>.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warehouse.errors import ServerError

SYSTEM_USER = "oversight"
STATE_DIR = Path("/var/lib")
_TEMPORARY_DIR = Path("/tmp")
_LONGEST_SOCKET_DIR = 90


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one embedded server lives and the user that runs it (None: whoever we are)."""

    data_dir: Path
    socket_dir: Path
    programs: Path
    account: pwd.struct_passwd | None

    def process_options(self) -> dict[str, Any]:
        """Keywords for `subprocess` that make a program run as the server's user."""
        environ = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        # In a session of its own, so that Ctrl-C in the terminal ends none of them half-way.
        options: dict[str, Any] = {
            "env": environ,
            "cwd": "/",
            "umask": 0o077,
            "start_new_session": True,
        }
        if self.account is not None:
            options.update(user=self.account.pw_uid, group=self.account.pw_gid, extra_groups=[])
        return options

    def give(self, path: Path) -> None:
        """Hand a file or folder to the server's user."""
        if self.account is not None:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)


def hash_of(path: Path | str) -> str:
    """Twelve characters that stand for a path in a name."""
    return hashlib.md5(str(path).encode(), usedforsecurity=False).hexdigest()[:12]


def socket_dir(home: Path) -> Path:
    """Where clients find the socket; profiles.yml holds the same rule."""
    path = home / "run"
    if len(str(path)) <= _LONGEST_SOCKET_DIR:
        return path
    return _TEMPORARY_DIR / f"oversight-{hash_of(path)}"


def existing_data_dir(home: Path) -> Path:
    """The data folder of a home folder, made or not yet made, without changing anything."""
    apart = STATE_DIR / f"oversight-{hash_of(home)}"
    if os.geteuid() == 0 and not (home / "data").exists() and (apart / "data").exists():
        return apart / "data"
    return home / "data"


def settle(home: Path, programs: Path) -> Place:
    """Choose and make the folders and, as root, the user; a ServerError says what to do."""
    _make_folder(home, mode=0o711 if os.geteuid() == 0 else 0o700)
    if os.geteuid() != 0:
        place = Place(
            data_dir=home / "data", socket_dir=socket_dir(home), programs=programs, account=None
        )
        _make_folder(place.socket_dir, mode=0o700)
        _check_private(place.socket_dir, os.geteuid())
        return place
    data_dir = existing_data_dir(home)
    owner = data_dir.stat().st_uid if data_dir.exists() else 0
    account = pwd.getpwuid(owner) if owner else _system_account()
    if data_dir.parent == home and not may_enter(home, account):
        data_dir = _apart(home) / "data"
    place = Place(
        data_dir=data_dir,
        socket_dir=socket_dir(home),
        programs=_reachable_programs(home, programs, account),
        account=account,
    )
    _make_root_socket_dir(place)
    return place


def may_enter(folder: Path, account: pwd.struct_passwd) -> bool:
    """Whether a user can reach a folder, by the permissions of the folder and all its parents."""
    for step in (folder, *folder.parents):
        status = step.stat()
        if status.st_uid == account.pw_uid:
            allowed = status.st_mode & stat.S_IXUSR
        elif status.st_gid == account.pw_gid:
            allowed = status.st_mode & stat.S_IXGRP
        else:
            allowed = status.st_mode & stat.S_IXOTH
        if not allowed:
            return False
    return True


def _make_root_socket_dir(place: Place) -> None:
    """Make the socket folder; where its user can't reach it, a link to one that he can."""
    path = place.socket_dir
    assert place.account is not None
    apart = place.data_dir.parent / "run"
    if path != apart and not may_enter(path.parent, place.account):
        _make_folder(apart, mode=0o700)
        place.give(apart)
        if not path.is_symlink():
            path.symlink_to(apart)
    else:
        _make_folder(path, mode=0o700)
        if path.stat().st_uid == 0:
            place.give(path)
    _check_private(path, place.account.pw_uid)


def _check_private(path: Path, user_id: int) -> None:
    """Refuse a socket folder that another user could have made or can write to."""
    status = path.stat()
    is_planted = path.is_symlink() and path.parent == _TEMPORARY_DIR
    if is_planted or status.st_uid != user_id or status.st_mode & 0o077:
        raise ServerError(
            f"{path} must belong to the server's user alone (it is user {status.st_uid}'s, mode "
            f"{stat.S_IMODE(status.st_mode):o}); remove it and start again, as the user who "
            "started before"
        )


def _make_folder(path: Path, *, mode: int) -> None:
    try:
        if not path.exists():
            path.mkdir(mode=mode, parents=True, exist_ok=True)  # Another start may have made it.
            path.chmod(mode)
    except OSError as error:
        raise ServerError(
            f"can't make the folder {path}: {error.strerror}; make it writable for "
            f"{pwd_name(os.geteuid())}, or set OVERSIGHT_HOME to a folder that is"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ServerError(
            f"can't write to {path}; make it writable for {pwd_name(os.geteuid())}, "
            "or set OVERSIGHT_HOME to a folder that is"
        )


def pwd_name(user_id: int) -> str:
    """A user's name for messages, the number where it has none (containers)."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return f"user {user_id}"


def _apart(home: Path) -> Path:
    path = STATE_DIR / f"oversight-{hash_of(home)}"
    _make_folder(path, mode=0o711)
    return path


def _system_account() -> pwd.struct_passwd:
    """The system user that runs the server for root, made at the first start."""
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir",
               "/nonexistent", "--shell", "/usr/sbin/nologin", SYSTEM_USER]  # fmt: skip
    if shutil.which("useradd") is None:
        command = ["adduser", "-S", "-D", "-H", SYSTEM_USER]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
        return pwd.getpwnam(SYSTEM_USER)
    except (OSError, subprocess.CalledProcessError, KeyError) as error:
        reason = getattr(error, "stderr", None) or error
        raise ServerError(
            f"PostgreSQL doesn't run as root and the system user {SYSTEM_USER} can't be made "
            f"({str(reason).strip()}); make it by hand, or run Oversight as an ordinary user"
        ) from error


def _reachable_programs(home: Path, programs: Path, account: pwd.struct_passwd) -> Path:
    """The programs where they are, or a copy of their package where the user can't get to them."""
    if may_enter(programs, account):
        return programs
    package = programs.parent.parent
    libraries = package.parent / f"{package.name}.libs"
    target = _apart(home) / f"programs-{hash_of(f'{programs}{programs.stat().st_mtime_ns}')}"
    if not target.exists():
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(programs.parent, partial / package.name / programs.parent.name)
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name)
        partial.rename(target)
    return target / package.name / programs.parent.name / programs.name
