"""The outbox file: SQL, synchronous, without Trio.

Two tables. `report` holds what must still reach the broker, in order. `mark` is a log of what happened to attempts:
the last word on each says whether it runs, was concluded or was given back, and every death it met is a line of its
own. A log, because appending costs a fraction of what an index of random keys does, and is read at a start only.
Separate from the outbox, which decides; here a whole batch of decisions becomes one transaction.
"""

import contextlib
import sqlite3
import time
import zlib
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from attrs import define, field, frozen

from milvaion_trio.disk.envelope_text import envelope_text, publication_of
from milvaion_trio.disk.sqlite_file import Place, error_code, head_of, is_in_place, opened, transaction
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.outbox.tally import Tally
from milvaion_trio.ports import Report, ReportKind

__all__ = [
    "ATTEMPTS_REMEMBERED",
    "APPLICATION_ID",
    "SCHEMA_VERSION",
    "Damaged",
    "Mark",
    "Recovered",
    "Store",
    "StoredReport",
    "read_reports",
]

APPLICATION_ID: Final = 0x6D74726F
"""`mtro`, by which the file is told from other people's databases."""
SCHEMA_VERSION: Final = 1

ATTEMPTS_REMEMBERED: Final = 50_000
"""Concluded attempts, newest. A message comes again within minutes of the fault that sent it again: that is hours of
work for a worker that does ten jobs a second, 10 MB on disk and 15 in memory."""
MARKS_KEPT: Final = 2 * ATTEMPTS_REMEMBERED
"""A start and a conclusion each. The start of an attempt that outlasts so many others is forgotten: no death of its."""
WAL_PAGES: Final = 250
"""1 MB: the write-ahead log is moved into the file when it is that long, as a small disk has to hold both of them."""
PRUNE_EVERY: Final = 5_000
"""New marks between two looks at what may be forgotten."""

LAST_NUMBER: Final = 2**62
"""No row has it, at a million a second."""
PAGE_BYTES: Final = 8 * 1024 * 1024
"""Bodies that one read returns at most, and one row: results may have 256 kB each."""

_TABLES: Final = (
    """CREATE TABLE report (
  number INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  occurrence_id TEXT,
  written_at INTEGER NOT NULL,
  envelope TEXT NOT NULL,
  body BLOB NOT NULL,
  checksum INTEGER NOT NULL
)""",
    """CREATE TABLE mark (
  id INTEGER PRIMARY KEY,
  occurrence_id TEXT NOT NULL,
  dispatch_stamp TEXT NOT NULL,
  retry_count INTEGER NOT NULL,
  snoozes INTEGER NOT NULL,
  state INTEGER NOT NULL,
  boot TEXT NOT NULL,
  checksum INTEGER NOT NULL
)""",
)

RETURNED, RUNNING, CONCLUDED, DIED = range(4)
Mark: TypeAlias = int
"""What happened to an attempt. `DIED` is written at a start, about a process that did not end its attempt."""

_KEY = "occurrence_id, dispatch_stamp, retry_count, snoozes"
_MARK = f"INSERT INTO mark ({_KEY}, state, boot, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)"


class Damaged(sqlite3.DatabaseError):
    """The file is whole as far as SQLite can tell, and yet not what was written."""


@frozen
class StoredReport:
    """A row as it was read."""

    number: int
    report: Report
    written_at: int
    """Unix seconds."""


@frozen
class Recovered:
    """What an earlier process left."""

    concluded: Sequence[AttemptKey]
    """Oldest first."""
    deaths: Mapping[AttemptKey, int]
    tallies: Sequence[Tally]
    last_number: int
    """Of all rows there are; 0 for none."""


@define(eq=False)
class Store:
    """An open file; used by one thread at a time."""

    path: Path
    boot: str
    """Which process this is: a start of an earlier one that never ended is a death."""
    is_new: bool = field(default=False, init=False)
    """Whether `open` made it."""
    _db: sqlite3.Connection = field(init=False)
    _since_pruned: int = field(default=PRUNE_EVERY, init=False)
    """At first all: many processes may come and go before one of them has written so many."""
    _place: Place | None = field(default=None, init=False)

    def open(self, durability: str) -> None:
        """Open or make it, for nobody else to read; raises `OSError` or `sqlite3.DatabaseError`.

        `Damaged` and some codes of SQLite's errors say that the file is not what it should be.
        """
        self._db, self._place = opened(self.path, busy_seconds=5.0)
        try:
            self._prepare(durability)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close it, with everything in the one file where that is possible."""
        with contextlib.suppress(sqlite3.Error):  # the write-ahead log is as durable, and is read at the next start
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    def make_room(self) -> None:
        """After a full disk: the write-ahead log back into the file, so that it needs no more room than its rows."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def write(
        self,
        reports: Iterable[tuple[int, Report]],
        marks: Mapping[AttemptKey, Mark],
        forgotten: Sequence[int],
    ) -> None:
        """One transaction. Raises `sqlite3.Error`; then nothing of it was written, as far as anybody can tell."""
        self._check_place()
        now = int(time.time())
        rows = [_row(number, report, now) for number, report in reports]
        db = self._db
        with transaction(db):
            if rows:
                db.executemany("INSERT OR REPLACE INTO report VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            if marks:
                db.executemany(_MARK, [_mark(attempt, state, self.boot) for attempt, state in marks.items()])
                self._prune(len(marks))
            if forgotten:
                db.executemany("DELETE FROM report WHERE number = ?", [(number,) for number in forgotten])

    def read(self, after: int, limit: int) -> list[StoredReport]:
        """The next rows behind that number, in order, at most `limit` and about `PAGE_BYTES`."""
        return read_reports(self._db, after, limit)

    def recover(self, left_cleanly: str = "") -> Recovered:
        """Count the deaths of processes that did not end their attempts, and return what they left.

        The boot that left cleanly did not die, even if it could not write down what it gave back.
        """
        with _damaged_if_senseless():
            return self._recover({self.boot, left_cleanly})

    # --- inside -----------------------------------------------------------------------------------------------------

    def _recover(self, alive: Container[str]) -> Recovered:
        db = self._db
        last: dict[AttemptKey, tuple[Mark, str]] = {}
        deaths: Counter[AttemptKey] = Counter()
        for *mark, checksum in db.execute(f"SELECT {_KEY}, state, boot, checksum FROM mark ORDER BY id"):
            if checksum != _checksum(b"", *mark):
                raise Damaged("a mark is not as it was written")
            *key, state, boot = mark
            attempt = _attempt(key)
            if state == DIED:
                deaths[attempt] += 1
            last.pop(attempt, None)  # so that the newest come last
            last[attempt] = state, boot
        died = [attempt for attempt, (state, boot) in last.items() if state == RUNNING and boot not in alive]
        deaths.update(died)
        if died:
            self.write((), dict.fromkeys(died, DIED), ())
        # Without its stamp, which a .NET worker drops, a key may be that of a later dispatch by now.
        concluded = [
            attempt for attempt, (state, _) in last.items() if state == CONCLUDED and attempt.dispatch_stamp is not None
        ]
        first_number, last_number = db.execute("SELECT min(number), max(number) FROM report").fetchone()
        if first_number is not None and not 0 < first_number <= last_number < LAST_NUMBER:
            raise Damaged(f"there are rows of number {first_number} and {last_number}")
        return Recovered(
            concluded=concluded,
            deaths={attempt: count for attempt, count in deaths.items() if last[attempt][0] != CONCLUDED},
            tallies=list(self._tallies()),
            last_number=last_number or 0,
        )

    def _prepare(self, durability: str) -> None:
        db = self._db
        (damage,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if damage != "ok":
            raise Damaged(damage)
        head = head_of(db)
        if head.is_foreign(APPLICATION_ID):
            raise Damaged("it is somebody else's database")
        if head.version > SCHEMA_VERSION:
            raise NewerSchema(head.version)
        if not head.is_empty and {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master")} != set(_TABLES):
            raise Damaged("its tables are not those that were made")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {durability}")
        db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        self.is_new = head.is_empty
        if self.is_new:
            db.executescript(
                f"BEGIN; {'; '.join(_TABLES)}; PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )

    def _check_place(self) -> None:
        if not is_in_place(self.path, self._place):
            raise Damaged("it was removed while it was open")

    def _prune(self, new: int) -> None:
        self._since_pruned += new
        if self._since_pruned >= PRUNE_EVERY:
            self._since_pruned = 0
            self._db.execute("DELETE FROM mark WHERE id <= (SELECT max(id) FROM mark) - ?", (MARKS_KEPT,))

    def _tallies(self) -> Iterator[Tally]:
        rows = self._db.execute(
            "SELECT occurrence_id, count(*), sum(kind = 'final'), sum(kind = 'log'),"
            " sum((kind = 'log') * length(body)) FROM report GROUP BY occurrence_id ORDER BY min(number)"
        )
        for occurrence_id, *numbers in rows:
            yield Tally(None if occurrence_id is None else OccurrenceId(occurrence_id), *numbers)


class NewerSchema(Exception):
    """The file was written by a newer version, whose rows this one cannot know."""

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__(f"its schema is version {version}, this version knows {SCHEMA_VERSION}")


@contextlib.contextmanager
def _damaged_if_senseless(what: str = "") -> Iterator[None]:
    """Whatever comes of values that nobody wrote is damage: letters that are no text, words that mean nothing."""
    try:
        yield
    except (ValueError, ArithmeticError, TypeError, AttributeError) as error:
        raise Damaged(f"{what}{error}") from error
    except sqlite3.OperationalError as error:
        if error_code(error) >= 0:
            raise
        raise Damaged(str(error)) from error  # of Python, which found bytes that are not UTF-8


def read_reports(db: sqlite3.Connection, after: int, limit: int) -> list[StoredReport]:
    """As `Store.read`, of any connection; raises `sqlite3.DatabaseError` for a row that cannot be read."""
    found: list[StoredReport] = []
    size = 0
    rows = db.execute("SELECT * FROM report WHERE number > ? ORDER BY number LIMIT ?", (after, limit))
    with contextlib.closing(rows), _damaged_if_senseless():
        for row in rows:
            found.append(_stored(row))
            size += len(row[5])
            if size >= PAGE_BYTES:
                break
    return found


def _row(number: int, report: Report, now: int) -> tuple[object, ...]:
    body = report.publication.message.body
    columns = number, report.kind.value, report.occurrence_id, now, envelope_text(report.publication)
    return *columns, body, _checksum(body, *columns)


def _stored(row: Sequence[object]) -> StoredReport:
    *columns, body, checksum = row
    number, kind, occurrence_id, written_at, envelope = columns
    if not (isinstance(number, int) and isinstance(written_at, int) and isinstance(body, bytes)):
        raise Damaged("a row has the wrong types")
    if checksum != _checksum(body, *columns):
        raise Damaged(f"row {number} is not as it was written")
    with _damaged_if_senseless(f"row {number} cannot be read: "):
        report = Report(
            ReportKind(kind),
            publication_of(str(envelope), body),
            None if occurrence_id is None else OccurrenceId(str(occurrence_id)),
        )
    return StoredReport(number, report, written_at)


def _mark(attempt: AttemptKey, state: Mark, boot: str) -> tuple[object, ...]:
    mark = (
        attempt.occurrence_id,
        attempt.dispatch_stamp or "",
        attempt.retry_count,
        attempt.snoozes,
        state,
        boot,
    )
    return *mark, _checksum(b"", *mark)


def _checksum(body: bytes, *columns: object) -> int:
    """SQLite checks the frame of what is written, not the picture; a report that is garbled must not be sent."""
    return zlib.crc32(body, zlib.crc32(repr(columns).encode()))


def _attempt(row: Sequence[object]) -> AttemptKey:
    occurrence_id, stamp, retry_count, snoozes = row
    if not (isinstance(retry_count, int) and isinstance(snoozes, int)):
        raise Damaged("a mark has the wrong types")
    return AttemptKey(OccurrenceId(str(occurrence_id)), str(stamp) or None, retry_count, snoozes)
