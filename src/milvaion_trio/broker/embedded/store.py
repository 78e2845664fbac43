"""The file of an embedded broker: SQL, synchronous, without Trio.

A row of `message` is a message in one queue, or on its way to it until it is `due`; its number is its place there.
What was handed out is not written message by message. A queue hands out in order, so `handed_out` says up to where; and
because a process that is killed cannot write that, `reach` says beforehand how many its consumers may hold at a time.
Separate from the keeping, which gathers what becomes one transaction here.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from milvaion_trio.broker.embedded.stored import StoredMessage, message_of, row_of
from milvaion_trio.disk.sqlite_file import Place, error_code, head_of, is_in_place, opened, transaction
from milvaion_trio.model.errors import StoreUnavailable
from milvaion_trio.ports import Binding, Exchange, Queue, Topology

__all__ = ["Changes", "Contents", "Store"]

APPLICATION_ID: Final = 0x6D747262
"""`mtrb`, by which the file is told from other people's databases."""
SCHEMA_VERSION: Final = 1
BUSY_SECONDS: Final = 1.0
"""For a process that is just leaving."""
WAL_PAGES: Final = 1_000
"""4 MB: what was acked soon after it came never moves from the log into the file."""

_TABLES: Final = (
    "CREATE TABLE exchange (name TEXT PRIMARY KEY, kind TEXT NOT NULL)",
    """CREATE TABLE queue (
  name TEXT PRIMARY KEY,
  arguments TEXT NOT NULL,
  reach INTEGER NOT NULL DEFAULT 0,
  handed_out INTEGER NOT NULL DEFAULT 0
)""",
    """CREATE TABLE binding (
  exchange TEXT NOT NULL,
  queue TEXT NOT NULL,
  key TEXT NOT NULL,
  PRIMARY KEY (exchange, queue, key)
)""",
    """CREATE TABLE message (
  number INTEGER PRIMARY KEY,
  queue TEXT NOT NULL,
  due REAL,
  envelope TEXT NOT NULL,
  body BLOB NOT NULL,
  checksum INTEGER NOT NULL
)""",
)

_ASIDE: Final = "Nothing in it was changed. Move it away, with its -wal, to start with empty queues"
_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "another process has it open. Stop that one, or give this one another folder",
    sqlite3.SQLITE_FULL: "its disk is full. Make room there",
    sqlite3.SQLITE_READONLY: "it cannot be written. Give this user the right to write the file and its folder",
    sqlite3.SQLITE_PERM: "it may not be opened. Look at the rights of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened. Look at the rights of the file and its folder",
    sqlite3.SQLITE_CORRUPT: f"it is damaged. {_ASIDE}",
    sqlite3.SQLITE_NOTADB: f"it is damaged, or another program's file. {_ASIDE}",
    sqlite3.SQLITE_IOERR: "its disk fails to read or write. Look at the system's log",
}
"""By SQLite's primary error code."""


@define(eq=False)
class Changes:
    """One transaction."""

    declared: list[Topology] = field(factory=list)
    stored: list[StoredMessage] = field(factory=list)
    moved: dict[int, int] = field(factory=dict)
    """New numbers of messages whose time has come, by their old ones."""
    removed: list[int] = field(factory=list)
    reaches: dict[str, int] = field(factory=dict)


@frozen(kw_only=True)
class Contents:
    """What a file holds."""

    topology: Topology
    messages: Sequence[StoredMessage]
    """In order."""
    handed_out: Mapping[str, int]
    """Per queue the place up to which messages may have been handed out."""
    last_number: int


@define(eq=False)
class Store:
    """An open file; used by one thread at a time."""

    path: Path
    durability: str
    """SQLite's `synchronous`: `NORMAL` survives the death of the process, `FULL` a power failure too."""
    _db: sqlite3.Connection = field(init=False)
    _place: Place | None = field(default=None, init=False)

    def open(self) -> Contents:
        """Open or make it, alone, and return what is in it; raises `StoreUnavailable` that says what to do."""
        with self.explained():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db, self._place = opened(self.path, busy_seconds=BUSY_SECONDS)
            try:
                self._prepare()
                return self._contents()
            except BaseException:
                self._db.close()
                raise

    def write(self, changes: Changes, offered: Sequence[StoredMessage] = ()) -> None:
        """All of it or nothing, with what was published besides; raises `StoreUnavailable`."""
        with self.explained(), self._transaction() as db:
            for topology in changes.declared:
                _declare(db, topology)
            db.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", map(row_of, (*changes.stored, *offered)))
            db.executemany(
                "UPDATE message SET number = ?, due = NULL WHERE number = ?",
                [(new, old) for old, new in changes.moved.items()],
            )
            db.executemany("DELETE FROM message WHERE number = ?", [(number,) for number in changes.removed])
            db.executemany(
                "UPDATE queue SET reach = max(reach, ?) WHERE name = ?",
                [(reach, queue) for queue, reach in changes.reaches.items()],
            )

    def close(self, handed_out: Mapping[str, int]) -> None:
        """Close it, with what was handed out of each queue; raises `StoreUnavailable`."""
        try:
            with self.explained(), self._transaction() as db:
                _leave(db, handed_out)
        finally:
            self._db.close()

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors into `StoreUnavailable`, in words for a person."""
        try:
            yield
        except sqlite3.Error as error:
            advice = _ADVICE.get(error_code(error))
            raise self._unavailable(f"{advice} ({error})" if advice else str(error)) from error
        except OSError as error:
            raise self._unavailable(f"{error.strerror}. Look at the path and at the rights of its folder") from error

    # --- inside -----------------------------------------------------------------------------------------------------

    def _unavailable(self, why: str) -> StoreUnavailable:
        return StoreUnavailable(f"The queues in {self.path} are not to be had: {why}.")

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # as long as it is open, however the process ends
        db.execute("BEGIN EXCLUSIVE")
        db.execute("COMMIT")
        head = head_of(db)
        if head.is_foreign(APPLICATION_ID):
            raise self._unavailable("it is a database of another program. Give this one another folder")
        if head.version > SCHEMA_VERSION:
            raise self._unavailable(
                f"it was written by a newer milvaion-trio (its tables have version {head.version}, this one knows "
                f"{SCHEMA_VERSION}). Use the newer one, or another folder"
            )
        [(damage,), *_] = db.execute("PRAGMA quick_check(1)").fetchall()
        if damage != "ok":
            raise self._unavailable(f"it is damaged ({damage}). {_ASIDE}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {self.durability}")
        db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        if head.is_empty:
            with self._transaction():
                for statement in _TABLES:
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._check_place()
        with transaction(self._db):
            yield self._db

    def _check_place(self) -> None:
        if not is_in_place(self.path, self._place):
            raise self._unavailable("the file was removed while it was open. Start this program again")

    def _contents(self) -> Contents:
        db = self._db
        try:
            topology = Topology(
                exchanges=[Exchange(*row) for row in db.execute("SELECT name, kind FROM exchange ORDER BY rowid")],
                queues=[
                    Queue(name, json.loads(arguments))
                    for name, arguments in db.execute("SELECT name, arguments FROM queue ORDER BY rowid")
                ],
                bindings=[
                    Binding(*row) for row in db.execute("SELECT exchange, queue, key FROM binding ORDER BY rowid")
                ],
            )
            known = {queue.name for queue in topology.queues}
            messages = [message_of(row, known) for row in db.execute("SELECT * FROM message ORDER BY number")]
        except (ValueError, ArithmeticError, TypeError, AttributeError) as error:
            raise self._unavailable(f"it is damaged ({error}). {_ASIDE}") from error
        handed_out = _handed_out(db, messages)
        with self._transaction():
            _leave(db, handed_out)
        last = max([messages[-1].number if messages else 0, *handed_out.values()])
        return Contents(topology=topology, messages=messages, handed_out=handed_out, last_number=last)


def _declare(db: sqlite3.Connection, topology: Topology) -> None:
    db.executemany(
        "INSERT OR IGNORE INTO exchange VALUES (?, ?)", [(each.name, each.kind) for each in topology.exchanges]
    )
    db.executemany(
        "INSERT OR IGNORE INTO queue (name, arguments) VALUES (?, ?)",
        [(queue.name, json.dumps(dict(queue.arguments))) for queue in topology.queues],
    )
    db.executemany(
        "INSERT OR IGNORE INTO binding VALUES (?, ?, ?)",
        [(binding.exchange, binding.queue, binding.key) for binding in topology.bindings],
    )


def _leave(db: sqlite3.Connection, handed_out: Mapping[str, int]) -> None:
    db.executemany(
        "UPDATE queue SET handed_out = ?, reach = 0 WHERE name = ?",
        [(number, queue) for queue, number in handed_out.items()],
    )


def _handed_out(db: sqlite3.Connection, messages: Sequence[StoredMessage]) -> dict[str, int]:
    """Up to where each queue may have handed out: as it was left, and as far as its consumers may have reached since.

    What is with consumers stands at the head of its queue, behind acks that were not written yet if there were any, and
    is no more than they may hold.
    """
    numbers: dict[str, list[int]] = {}
    for message in messages:
        if message.due is None:
            numbers.setdefault(message.queue, []).append(message.number)
    found = {}
    for queue, reach, handed_out in db.execute("SELECT name, reach, handed_out FROM queue"):
        head = numbers.get(queue, [])[:reach]
        found[queue] = max([handed_out, *head[-1:]])
    return found
