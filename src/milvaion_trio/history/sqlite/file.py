"""The file of a history: how it is opened, what version it has, and what its errors mean to a person.

Separate from the store, which says what is written and read in a file that is good.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import define, field

from milvaion_trio.disk.sqlite_file import Place, error_code, head_of, is_in_place, opened, transaction
from milvaion_trio.model.errors import StoreUnavailable

__all__ = ["HistoryFile"]

VERSION: Final = 1
"""Of the tables. A newer one may hold what this program would lose by writing rows back."""
APPLICATION: Final = 0x6D747268
"""In the file's head, so that no other program's database is taken for ours: `mtrh`."""
BUSY_SECONDS: Final = 10.0
"""Another process writes only when a person deletes something; a checkpoint can take a while on a slow disk."""

CACHE: Final = -32_000
"""KB. Random ids touch pages everywhere: with this and the next a quarter less is written (benchmarks/keeping.py)."""
CHECKPOINT: Final = 8_000
"""Pages in the log, 32 MB, before they go to their places; SQLite's 1,000 are one batch of a busy monitor."""

TABLES: Final = """
CREATE TABLE occurrences (
    id TEXT PRIMARY KEY, created INTEGER NOT NULL, status INTEGER NOT NULL, job TEXT, worker TEXT, schedule TEXT,
    heard INTEGER, document TEXT NOT NULL);
CREATE INDEX newest ON occurrences (created, id);
CREATE INDEX of_status ON occurrences (status, created, id);
CREATE INDEX of_job ON occurrences (job, created, id, status);
CREATE INDEX of_worker ON occurrences (worker, created, id, status);
CREATE INDEX of_schedule ON occurrences (schedule, created, id) WHERE schedule IS NOT NULL;
CREATE INDEX unfinished ON occurrences (heard, id) WHERE heard IS NOT NULL;
CREATE TABLE lines (
    occurrence TEXT, at INTEGER, key TEXT, document TEXT NOT NULL, PRIMARY KEY (occurrence, at, key)) WITHOUT ROWID;
CREATE TABLE failures (occurrence TEXT PRIMARY KEY, failed INTEGER NOT NULL, job TEXT, document TEXT NOT NULL);
CREATE INDEX newest_failures ON failures (failed, occurrence);
CREATE INDEX failures_of_job ON failures (job, failed, occurrence);
CREATE TABLE workers (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE instances (id TEXT PRIMARY KEY, worker TEXT NOT NULL, document TEXT NOT NULL);
"""
"""`document` is the row; the columns beside it are what rows are found by. `heard` only has who has not ended.

With the status in their indexes, the few failures of a job or worker that has most of the rows are found without a
look at each of these.
"""

_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "its disk is full. Make room, or keep less (Worker:Monitor:RetentionDays)",
    sqlite3.SQLITE_READONLY: "it cannot be written. Give this user the right to write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened. Look at its path (Worker:Monitor:Store) and its folder's rights",
    sqlite3.SQLITE_PERM: "it may not be opened. Look at the rights of the file and its folder",
    sqlite3.SQLITE_BUSY: "another process has locked it for too long. See which one has it open",
    sqlite3.SQLITE_CORRUPT: "it is damaged. Move it away, with its -wal and -shm, and a new one is made",
    sqlite3.SQLITE_NOTADB: "it is no database, or damaged. Move it away, with its -wal and -shm, and a new one is made",
    sqlite3.SQLITE_IOERR: "its disk fails to read or write. Look at the system's log",
}
"""By SQLite's primary error code."""


@define(eq=False)
class HistoryFile:
    """One file and a connection to it, used by one thread after the other. All methods raise `StoreUnavailable`."""

    path: Path
    _connection: sqlite3.Connection | None = field(default=None, init=False)
    _place: Place | None = field(default=None, init=False)
    """Of what is open."""
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def open(self) -> None:
        """Open it, and make what is missing."""
        with self._lock, self._errors():
            self._open()

    def close(self) -> None:
        """Close it; what was committed stays."""
        with self._lock, self._errors():
            self._close()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """To see one state of the file."""
        with self._transaction("DEFERRED") as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """To write all of it or nothing, durable when it is left."""
        with self._transaction("IMMEDIATE") as connection:
            yield connection

    @contextlib.contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            # What is written to a file that was deleted is gone with the process, however durable it is until then.
            if self._connection is None or not is_in_place(self.path, self._place):
                self._close()
                self._open()
            assert self._connection is not None
            with transaction(self._connection, kind):
                yield self._connection

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection, place = opened(self.path, busy_seconds=BUSY_SECONDS)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._place = connection, place

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._check(connection)
        connection.execute("PRAGMA journal_mode = WAL")  # so that readers do not wait for the monitor, nor it for them
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = {CACHE}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
        if head_of(connection).version == VERSION:
            return
        with transaction(connection):
            if head_of(connection).version != VERSION:  # another process may have been quicker
                for statement in TABLES.strip().removesuffix(";").split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")

    def _check(self, connection: sqlite3.Connection) -> None:
        head = head_of(connection)
        if head.is_foreign(APPLICATION):
            raise StoreUnavailable(
                f"The history {self.path} is a database of another program. Name another file (Worker:Monitor:Store)."
            )
        if head.version > VERSION:
            raise StoreUnavailable(
                f"The history {self.path} was written by a newer milvaion-trio: its tables have version "
                f"{head.version}, this one knows {VERSION}. Use the newer one, or name another file "
                "(Worker:Monitor:Store)."
            )

    def _close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            advice = _ADVICE.get(error_code(error))
            raise StoreUnavailable(
                f"The history {self.path} is not to be had: {f'{advice} ({error})' if advice else error}."
            ) from error
        except OSError as error:
            raise StoreUnavailable(
                f"The history {self.path} is not to be had: {error.strerror or error}. Look at the path "
                "(Worker:Monitor:Store) and at the rights of its folder."
            ) from error
