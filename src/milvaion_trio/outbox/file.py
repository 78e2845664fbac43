"""Whose the outbox file is, and what becomes of a damaged one.

Separate from the store, which reads and writes a file that is good: here it is found, locked, judged and, where it
must be, set aside under another name.
"""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path
from typing import IO, Final

from attrs import define, field

from milvaion_trio.disk.sqlite_file import error_code
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.outbox.store import Damaged, NewerSchema, Recovered, Store

__all__ = ["OutboxFile", "is_taken"]

BOOT_BYTES: Final = 64
"""Of the lock file, for the boot that left it cleanly."""
ROOM: Final = 1_280 * 1024
"""Bytes that have to be free before a full disk counts as one that is not: the write-ahead log, which gives back its
1 MB when a disk is full, and a little more. With less, a worker would take a few jobs each second and stop again."""

_log = logging.getLogger("milvaion_trio.outbox")

_held: set[Path] = set()
"""Lock files of this process: the system's lock is between processes, and lost when one of them is opened again."""

_owning = threading.Lock()

_FOR_A_PERSON = frozenset((errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EROFS))
"""Errors that do not pass by themselves."""
_BEYOND_REPAIR = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT))
"""Codes of errors by which a file shows that it is damaged."""


def _absolute(path: Path) -> Path:
    return path.absolute()


@define(eq=False)
class OutboxFile:
    """One file and its lock. All methods block."""

    path: Path = field(converter=_absolute)
    """Seen from where the process is now: a job may go elsewhere."""
    durability: str
    boot: str
    store: Store | None = field(default=None, init=False)
    """`None` while it cannot be opened."""
    is_another: bool = field(default=False, init=False)
    """Whether what was written before is not in it, because it was set aside or removed; until that was told."""
    _lock: IO[bytes] | None = field(default=None, init=False)
    _left_cleanly: str = field(default="", init=False)
    """The boot of the process that had it before, if that did not die."""

    def open(self) -> Recovered:
        """Open or make it, and return what an earlier process left; a damaged one is set aside.

        Raises `SettingsError` for what a person has to put right: no permission, another owner, a newer schema; and
        `OSError` or `sqlite3.Error` for what may pass, such as a full disk.
        """
        with _owning:
            self._own()
        try:
            left = self._recovered()
        except SettingsError:
            self.close()
            raise
        self.is_another = False
        return left

    def reopen(self, error: Exception | None) -> None:
        """Look at it again after that error; `is_another` says whether it was set aside.

        Raises `OSError` or `sqlite3.Error` while it cannot be opened.
        """
        self.close_store()
        try:
            if isinstance(error, sqlite3.DatabaseError) and _is_damage(error):
                raise error  # it may look good all the same, and would be read and found damaged for ever
            self._open()
        except sqlite3.DatabaseError as damage:
            if not _is_damage(damage):
                raise
            self._set_aside(damage)
            self.is_another = True
            self._open()
        except SettingsError as refused:
            raise OSError(refused.problems[0]) from refused

    def _recovered(self) -> Recovered:
        self.close_store()  # of an earlier try
        try:
            return self._open().recover(self._left_cleanly)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self.close_store()
            self._set_aside(error)
            return self._open().recover(self._left_cleanly)

    def _open(self) -> Store:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = Store(self.path, self.boot)
        try:
            store.open(self.durability)
        except NewerSchema as error:
            raise self._refused(f"was written by a newer version of milvaion-trio: {error}") from error
        self.is_another = self.is_another or store.is_new
        self.store = store
        return store

    def has_room(self) -> bool:
        """Whether a disk that was full has room again, for more than the pages that the log has just given back."""
        return shutil.disk_usage(self.path.parent).free >= ROOM

    def close_store(self) -> None:
        """Close it and keep the lock."""
        if self.store is not None:
            store, self.store = self.store, None
            store.close()

    def close(self) -> None:
        """Close it and let others have it."""
        self.close_store()
        if self._lock is not None:
            # In place, so that it can be said on a full disk too: then nothing else can (`Store.recover`).
            os.pwrite(self._lock.fileno(), self.boot.encode().ljust(BOOT_BYTES), 0)
            _held.discard(Path(self._lock.name))
            self._lock.close()
            self._lock = None

    def _own(self) -> None:
        if self._lock is not None:
            return
        path = self.path.resolve()
        place = path.with_suffix(".lock")
        if place in _held:
            raise self._refused("belongs to another worker of this process. Give each a folder of its own")
        with contextlib.ExitStack() as stack:
            try:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = stack.enter_context(open(place, "r+b", opener=_made_where_missing))
            except OSError as error:
                if error.errno in _FOR_A_PERSON:
                    raise self._refused(f"cannot be written ({error.strerror})") from error
                raise
            try:
                # Not `flock`, which a job's orphaned children would hold on.
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise  # no locks at all on this file system, for example
                raise self._refused("belongs to another worker that runs. Give each a folder of its own") from error
            if path.is_dir():
                raise self._refused("is a folder")
            if not os.access(path if path.exists() else path.parent, os.W_OK):
                raise self._refused("cannot be written (Permission denied)")
            self._left_cleanly = os.pread(lock.fileno(), BOOT_BYTES, 0).decode(errors="replace").strip()
            os.pwrite(lock.fileno(), b" " * BOOT_BYTES, 0)
            stack.pop_all()  # kept open: it is ours
        self._lock = lock
        _held.add(place)

    def _refused(self, why: str) -> SettingsError:
        return SettingsError(
            [
                f"The outbox {self.path} {why} (Worker:OfflineResilience:LocalStoragePath; "
                "Worker:OfflineResilience:Enabled = false keeps the outbox in memory)."
            ]
        )

    def _set_aside(self, error: Exception) -> None:
        """Rename it, with what belongs to it, to a name that nothing has yet."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        number, name = 1, f"{self.path.name}.corrupt-{stamp}"
        while self.path.with_name(name).exists():
            number += 1
            name = f"{self.path.name}.corrupt-{stamp}-{number}"
        kept = [suffix for suffix in ("", "-wal", "-shm") if self.path.with_name(self.path.name + suffix).exists()]
        for suffix in kept:
            self.path.with_name(self.path.name + suffix).rename(self.path.with_name(name + suffix))
        _log.error(
            "the outbox %s is damaged (%s). %s new one is made; no job is lost, those of which only the old one knew "
            "that they are over are run again",
            self.path,
            error,
            f"It is kept as {name} and a" if "" in kept else "A",
        )


def is_taken(path: Path) -> bool:
    """Whether another process has this outbox now. Not to be asked by one that has it itself: it would lose it."""
    with contextlib.suppress(FileNotFoundError), open(path.resolve().with_suffix(".lock"), "r+b") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EACCES, errno.EAGAIN)
    return False


def _made_where_missing(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o600)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return isinstance(error, Damaged) or error_code(error) in _BEYOND_REPAIR
