"""Counters that the processes of one machine share: a table in a file, mapped into memory."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import structlog
from limits.storage import Storage

SLOTS = 65_536
LONGEST_SECONDS = 86_400
_HEADER = b"oversight counters 1\n".ljust(64, b"\0")
_SLOT = struct.Struct("<16sdQ")
"""Whose it is, when its window ends, how many; all zero where nothing ever was."""
_NOBODY = bytes(16)
_NEIGHBOURS = 32
_SPINS, _NAP_SECONDS = 50, 0.0002
_PATIENCE_SECONDS = 2.0
_ALONE, _FREE = fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_UN

log = structlog.get_logger()

# Called so, a lock keeps the GIL: whoever gave it away while holding the lock would keep every
# other process waiting until its own threads give it back.
_flock: Callable[[int, int], int] = ctypes.PyDLL(None).flock


class CountersError(Exception):
    """The table can't be used: no file can be made, or another process does not let go of it."""


class SharedCounters(Storage):
    """Fixed windows, exact over threads and processes, in a file that outlives them.

    The kernel lets go of a killed process's lock. When 32 neighbouring slots are all in use, the
    one whose window ends first gives way: 65,536 slots in 2 MB are for that many callers at once.
    """

    STORAGE_SCHEME = None

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._guard = threading.Lock()
        self._open()

    @property
    def base_exceptions(self) -> type[Exception]:
        """What callers have to expect."""
        return CountersError

    def hit(self, key: str, seconds: int, amount: int = 1) -> tuple[int, float]:
        """Count, and give back the count and when its window ends (Unix time)."""
        digest, place = _place(key)
        if self._pid != os.getpid():
            self._open()  # A forked child would share its parent's lock.
        if not self._guard.acquire(blocking=False):
            self._wait(lambda: self._guard.acquire(blocking=False))
        try:
            if _flock(self._file, _ALONE):
                self._wait(lambda: not _flock(self._file, _ALONE))
            now = time.time()
            whose, ends, count = _SLOT.unpack_from(self._table, place)
            if whose != digest:
                place, ends, count = self._find(digest, place, now)
            if not now < ends <= now + seconds:
                ends, count = now + seconds, 0
            count += amount
            _SLOT.pack_into(self._table, place, digest, ends, count)
        finally:
            _flock(self._file, _FREE)
            self._guard.release()
        return count, ends

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count; a window begins with its first."""
        return self.hit(key, expiry, amount)[0]

    def get(self, key: str) -> int:
        """The count of the window under way, 0 without one."""
        return self._now(key)[1]

    def get_expiry(self, key: str) -> float:
        """When the window under way ends; now without one."""
        return self._now(key)[0]

    def clear(self, key: str) -> None:
        """Begin the window of a key anew."""
        self.hit(key, 0, 0)

    def check(self) -> bool:
        """Whether the file is still there."""
        return self._path.exists()

    def reset(self) -> int | None:
        """Begin all windows anew."""
        with self._guard:
            self._table[len(_HEADER) :] = bytes(len(self._table) - len(_HEADER))
        return None

    def _now(self, key: str) -> tuple[float, int]:
        now = time.time()
        digest, first = _place(key)
        _, ends, count = self._find(digest, first, now)
        return (ends, count) if ends > now else (now, 0)

    def _find(self, digest: bytes, first: int, now: float) -> tuple[int, float, int]:
        """The place of a key, its own or a free one, its window's end (0: none) and count."""
        free, free_ends = first, float("inf")
        place = first
        for _ in range(_NEIGHBOURS):
            whose, ends, count = _SLOT.unpack_from(self._table, place)
            if whose == digest:
                return place, ends, count
            if not now < ends <= now + LONGEST_SECONDS:
                ends = 0.0
            if ends < free_ends:
                free, free_ends = place, ends
            if whose == _NOBODY:
                break  # Nobody ever was here, so the key is not further on.
            place += _SLOT.size
        if free_ends > 0:
            log.warning("the table of counters is full; a window begins anew", file=str(self._path))
        return free, 0.0, 0

    def _open(self) -> None:
        """Map the file; one that is missing or not ours is made anew, under its lock."""
        size = len(_HEADER) + (SLOTS + _NEIGHBOURS) * _SLOT.size
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                if os.fstat(self._file).st_size != size or (
                    os.pread(self._file, len(_HEADER), 0) != _HEADER
                ):
                    # In place and never shrunk: other processes may have it mapped.
                    os.posix_fallocate(self._file, 0, size)
                    os.pwrite(self._file, _HEADER.ljust(size, b"\0"), 0)
                    os.ftruncate(self._file, size)
                self._table = mmap.mmap(self._file, size)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        except OSError as error:
            raise CountersError(f"can't use {self._path}: {error.strerror}") from error
        self._pid = os.getpid()

    @staticmethod
    def _wait(is_taken: Callable[[], bool]) -> None:
        """Until a lock is ours: it is held for microseconds, unless its holder was stopped."""
        for _ in range(_SPINS):
            if is_taken():
                return
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not is_taken():
            if time.monotonic() > deadline:
                raise CountersError("another process or thread does not let go of the counters")
            time.sleep(_NAP_SECONDS)


@lru_cache(maxsize=20_000)
def _place(key: str) -> tuple[bytes, int]:
    """What stands for a key in the table, and where it is looked for first."""
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    return digest, len(_HEADER) + int.from_bytes(digest[:4], "little") % SLOTS * _SLOT.size
