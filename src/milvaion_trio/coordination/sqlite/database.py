"""The SQLite file of coordination, or memory: found, opened, judged, and made where it is missing.

Separate from the store, which asks and writes in a file that is good.
"""

import contextlib
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from attrs import define, field

from milvaion_trio.disk.sqlite_file import Place, error_code, head_of, is_in_place, opened, transaction

__all__ = ["BUSY_TIMEOUT", "MEMORY", "Database", "UnusableFile"]

MEMORY: Final = ":memory:"
APPLICATION_ID: Final = 0x6D747263
"""`mtrc`, by which the file is told from other people's databases."""
SCHEMA_VERSION: Final = 1
BUSY_TIMEOUT: Final = 2.0
"""Seconds to wait for another process's transaction. Those take milliseconds, unless their process was stopped."""

_TABLES: Final = (
    # `token` and `revision` last given, and `leader`, the last token given for that lease.
    "CREATE TABLE number (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE lease (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  token INTEGER NOT NULL,
  until REAL NOT NULL
) WITHOUT ROWID""",
    "CREATE INDEX lease_until ON lease (until)",
    """CREATE TABLE claim (
  key TEXT PRIMARY KEY,
  occurrence_id TEXT NOT NULL,
  until REAL NOT NULL
) WITHOUT ROWID""",
    "CREATE INDEX claim_until ON claim (until)",
    """CREATE TABLE schedule (
  id TEXT PRIMARY KEY,
  definition TEXT NOT NULL,
  recurrence TEXT NOT NULL,
  created INTEGER NOT NULL,
  paused INTEGER NOT NULL DEFAULT 0,
  resumed INTEGER,
  progress TEXT
)""",
    # Without the text once it was taken; then it is there for `has_ended`.
    """CREATE TABLE ended (
  schedule_id TEXT NOT NULL,
  tick INTEGER NOT NULL,
  at INTEGER NOT NULL,
  told REAL NOT NULL,
  news TEXT,
  PRIMARY KEY (schedule_id, tick)
) WITHOUT ROWID""",
    "CREATE INDEX ended_news ON ended (at) WHERE news IS NOT NULL",
    "CREATE INDEX ended_told ON ended (told)",
)


class UnusableFile(Exception):
    """The file is not what it should be; its text says why, for a person."""


@define(eq=False)
class Database:
    """Opened with its first transaction. Used by one thread at a time, and by several processes.

    Raises `OSError`, `sqlite3.Error` and `UnusableFile`.
    """

    place: str
    clock: Callable[[], float]
    _db: sqlite3.Connection | None = field(default=None, init=False)
    _at_end: Callable[[], object] = field(init=False)
    """Closes it, once."""
    _place: Place | None = field(default=None, init=False)

    def close(self) -> None:
        """Close a file; memory stays as long as this object."""
        if self._db is not None and self.place != MEMORY:
            self._at_end()
            self._db = None

    @contextlib.contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[tuple[sqlite3.Connection, float]]:
        """One that begins with the lock for writing unless it is `DEFERRED`, and the time inside it."""
        db = self._opened()
        with transaction(db, kind):
            yield db, self.clock()  # read under the lock: for two processes it runs as their transactions do

    def _opened(self) -> sqlite3.Connection:
        if self._db is not None and not self._is_in_place():
            self.close()
        if self._db is None:
            if self.place == MEMORY:
                db = sqlite3.connect(MEMORY, isolation_level=None, check_same_thread=False)
            else:
                path = Path(self.place)
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                db, self._place = opened(path, busy_seconds=BUSY_TIMEOUT)
            try:
                _prepare(db)
            except BaseException:
                db.close()
                raise
            # Memory is closed nowhere else, and Python 3.13 warns of one that was not. No `__del__`: of what goes
            # together, it may come behind the connection's own. Not when the process ends: a thread that was left
            # behind in a transaction would go on with a closed one.
            self._at_end = finalizer = weakref.finalize(self, db.close)
            finalizer.atexit = False
            self._db = db
        return self._db

    def _is_in_place(self) -> bool:
        return self.place == MEMORY or is_in_place(self.place, self._place)


def _prepare(db: sqlite3.Connection) -> None:
    with transaction(db, "DEFERRED"):
        _is_made(db)  # before anything is changed
    _write_ahead(db)
    # A process that dies loses nothing. Where the power fails, the last second may be lost; tokens grow all the same.
    db.execute("PRAGMA synchronous = NORMAL")
    with transaction(db):
        if not _is_made(db):  # others may have been faster
            for statement in _TABLES:
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _is_made(db: sqlite3.Connection) -> bool:
    """Whether the tables are there; raises `UnusableFile` where others are."""
    head = head_of(db)
    if head.is_foreign(APPLICATION_ID):
        raise UnusableFile("it is somebody else's database")
    if head.version > SCHEMA_VERSION:
        raise UnusableFile(f"it was written by a newer version (schema {head.version}, known is {SCHEMA_VERSION})")
    return not head.is_empty


def _write_ahead(db: sqlite3.Connection) -> None:
    """Use a write-ahead log. SQLite does not wait for others here, as for those that leave and remove the log."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.005)
