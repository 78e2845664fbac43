"""What every SQLite file of ours needs, whatever is in it: transactions, its head, its place, the code of an error.

Separate from the stores, each of which says for itself what a strange file or an error means to whoever uses it.
"""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

__all__ = ["Head", "Place", "error_code", "head_of", "is_in_place", "opened", "place_of", "transaction"]


Place: TypeAlias = tuple[int, int]
"""Device and inode: whatever becomes of its name, this file and no other."""


def opened(path: Path, *, busy_seconds: float) -> tuple[sqlite3.Connection, Place | None]:
    """A connection for any one thread at a time, and the file's place; it is made where there is none.

    For nobody else to read, as data, results and logs are nothing for other users. Raises `OSError` or `sqlite3.Error`.
    """
    path = Path(os.path.realpath(path))  # a link to nothing is made where it leads, as SQLite would, but for others too
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        # Not opened: with any descriptor of a file that it closes, a process gives back all locks that it has on it,
        # those of another connection too.
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path)) from None
    place = place_of(path)  # before it is opened: what is put there meanwhile is then known for another one
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=busy_seconds), place


@frozen
class Head:
    """What the file says of itself."""

    is_empty: bool
    """Whether nobody has made tables in it."""
    application: int
    """By which a program tells its files from those of others."""
    version: int
    """Of the tables."""

    def is_foreign(self, application: int) -> bool:
        """Whether another program made its tables."""
        return not self.is_empty and self.application != application


def head_of(db: sqlite3.Connection) -> Head:
    """The head of an open file."""
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return Head(not tables, application, version)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """All that is done inside or, where something is raised, nothing of it."""
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # after some errors SQLite has rolled back by itself
            db.execute("ROLLBACK")
        raise


def place_of(path: str | Path) -> Place | None:
    """Of what is there now, `None` for nothing."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def is_in_place(path: str | Path, place: Place | None) -> bool:
    """Whether what was opened there still is: SQLite goes on with a file that was removed, for nobody to find."""
    return place is not None and place_of(path) == place


def error_code(error: BaseException) -> int:
    """SQLite's primary error code; -1 for an error that has none."""
    code: int = getattr(error, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else -1
