"""Leases, claims and schedules in tables: SQL, synchronous, without Trio.

Each method is one transaction that begins with the lock for writing, so that nothing changes between what it reads and
what it writes. Separate from the adapter, which knows threads.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from attrs import define, field

from milvaion_trio.coordination.codec import (
    end_text,
    progress_text,
    read_end,
    recurrence_text,
    schedule_text,
)
from milvaion_trio.coordination.reading import ENDS_AT_A_TIME, ENDS_REMEMBERED, entry_of, readable
from milvaion_trio.coordination.sqlite.database import Database
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.schedule import Entry, Millis, Progress, RunEnd, Schedule
from milvaion_trio.ports.coordination import LEADER, Beat, Token

__all__ = ["Store"]

_GUESSED: Final = -1
"""When the end was told of a run that was only taken for lost: for `has_ended` it never was."""


@define(eq=False)
class Store:
    """A file or memory, opened when it is first needed. Used by one thread at a time; raises `sqlite3.Error`."""

    place: str
    clock: Callable[[], float]
    """For lifetimes, and tokens grow with it: by a clock that starts anew they would too where the data is lost."""
    _database: Database = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Open nothing yet."""
        self._database = Database(self.place, self.clock)

    def close(self) -> None:
        """Close a file; memory stays as long as this object."""
        self._database.close()

    # --- leases -------------------------------------------------------------------------------------------------------

    def acquire(self, name: str, holder: str, seconds: float) -> Token | None:
        """See `Leases.acquire`."""
        with self._database.transaction() as (db, now):
            # All that ran out, so that names that never come again leave nothing behind.
            db.execute("DELETE FROM lease WHERE until <= ?", (now,))
            if db.execute("SELECT 1 FROM lease WHERE name = ?", (name,)).fetchone():
                return None
            token = Token(self._next(db, "token", now))
            db.execute("INSERT INTO lease VALUES (?, ?, ?, ?)", (name, holder, token, now + seconds))
            if name == LEADER:
                _set_number(db, "leader", token)
            return token

    def renew(self, name: str, token: Token, seconds: float) -> bool:
        """See `Leases.renew`."""
        with self._database.transaction() as (db, now):
            return _renew(db, now, name, token, seconds)

    def release(self, name: str, token: Token) -> bool:
        """See `Leases.release`."""
        with self._database.transaction() as (db, now):
            held = "DELETE FROM lease WHERE name = ? AND token = ? AND until > ?"
            return db.execute(held, (name, token, now)).rowcount > 0

    def end_leases(self) -> None:
        """End all of them; the next holders get larger tokens all the same."""
        with self._database.transaction() as (db, _):
            db.execute("DELETE FROM lease")

    # --- claims -------------------------------------------------------------------------------------------------------

    def claim(self, key: str, occurrence_id: OccurrenceId, seconds: float) -> OccurrenceId:
        """See `Claims.claim`."""
        with self._database.transaction() as (db, now):
            db.execute("DELETE FROM claim WHERE until <= ?", (now,))
            owner = db.execute("SELECT occurrence_id FROM claim WHERE key = ?", (key,)).fetchone()
            if owner is not None and owner[0] != occurrence_id:
                return OccurrenceId(owner[0])
            db.execute("INSERT OR REPLACE INTO claim VALUES (?, ?, ?)", (key, occurrence_id, now + seconds))
            return occurrence_id

    def give_up(self, key: str, occurrence_id: OccurrenceId) -> bool:
        """See `Claims.give_up`."""
        with self._database.transaction() as (db, now):
            owned = "DELETE FROM claim WHERE key = ? AND occurrence_id = ? AND until > ?"
            return db.execute(owned, (key, occurrence_id, now)).rowcount > 0

    # --- the book, for operators --------------------------------------------------------------------------------------

    def put(self, schedule: Schedule, moment: Millis) -> bool:
        """See `ScheduleBook.put`."""
        definition, recurrence = schedule_text(schedule), recurrence_text(schedule.when)
        with self._database.transaction() as (db, now):
            there = db.execute("SELECT definition, recurrence FROM schedule WHERE id = ?", (schedule.id,)).fetchone()
            if there == (definition, recurrence):
                return False
            if there is None:
                db.execute(
                    "INSERT INTO schedule (id, definition, recurrence, created) VALUES (?, ?, ?, ?)",
                    (schedule.id, definition, recurrence, moment),
                )
            elif there[1] == recurrence:
                db.execute("UPDATE schedule SET definition = ? WHERE id = ?", (definition, schedule.id))
            else:
                db.execute(
                    "UPDATE schedule SET definition = ?, recurrence = ?, created = ?, progress = NULL WHERE id = ?",
                    (definition, recurrence, moment, schedule.id),
                )
            self._next(db, "revision", now)
            return True

    def remove(self, schedule_id: str) -> bool:
        """See `ScheduleBook.remove`."""
        return self._edit("DELETE FROM schedule WHERE id = ?", schedule_id)

    def pause(self, schedule_id: str) -> bool:
        """See `ScheduleBook.pause`."""
        return self._edit("UPDATE schedule SET paused = 1 WHERE id = ?", schedule_id)

    def resume(self, schedule_id: str, moment: Millis) -> bool:
        """See `ScheduleBook.resume`."""
        disabled = "CASE WHEN json_valid(progress) THEN json_extract(progress, '$.disabled') END"
        change = f"UPDATE schedule SET paused = 0, resumed = max(?1, coalesce({disabled} + 1, ?1)) WHERE id = ?2"
        return self._edit(change, moment, schedule_id)

    def read(self) -> tuple[int, Sequence[Entry]]:
        """See `ScheduleBook.read`."""
        with self._database.transaction("DEFERRED") as (db, _):
            revision = _number(db, "revision")
            rows = db.execute(
                "SELECT id, definition, recurrence, created, paused, resumed, progress FROM schedule ORDER BY id"
            ).fetchall()
        return revision, readable(rows, entry_of)

    # --- the book, for workers and the leader -------------------------------------------------------------------------

    def ended(self, end: RunEnd) -> None:
        """See `ScheduleBook.ended`."""
        with self._database.transaction() as (db, now):
            db.execute("DELETE FROM ended WHERE told < ? AND news IS NULL", (now - ENDS_REMEMBERED,))
            row = end.schedule_id, end.tick, end.at, now if end.is_known else _GUESSED, end_text(end)
            db.execute(
                "INSERT INTO ended VALUES (?, ?, ?, ?, ?) ON CONFLICT (schedule_id, tick) DO UPDATE SET "
                "at = excluded.at, told = excluded.told, news = excluded.news "
                f"WHERE ended.told = {_GUESSED} AND excluded.told <> {_GUESSED}",
                row,
            )

    def has_ended(self, schedule_id: str, tick: Millis) -> bool:
        """See `ScheduleBook.has_ended`."""
        with self._database.transaction("DEFERRED") as (db, _):
            told = f"SELECT 1 FROM ended WHERE schedule_id = ? AND tick = ? AND told <> {_GUESSED}"
            return db.execute(told, (schedule_id, tick)).fetchone() is not None

    def beat(self, token: Token, seconds: float) -> Beat | None:
        """See `ScheduleBook.beat`."""
        with self._database.transaction() as (db, now):
            if not _renew(db, now, LEADER, token, seconds):
                return None
            revision = _number(db, "revision")
            news = "SELECT news FROM ended WHERE news IS NOT NULL ORDER BY at, schedule_id, tick LIMIT ?"
            rows = db.execute(news, (ENDS_AT_A_TIME,)).fetchall()
        return Beat(revision, tuple(readable(rows, read_end)))

    def advance(self, token: Token, progress: Mapping[str, Progress], taken: Sequence[RunEnd]) -> bool:
        """See `ScheduleBook.advance`."""
        with self._database.transaction() as (db, _):
            if token < _number(db, "leader"):
                return False
            db.executemany(
                "UPDATE schedule SET progress = ? WHERE id = ?",
                [(progress_text(each), schedule_id) for schedule_id, each in progress.items()],
            )
            db.executemany(
                "UPDATE ended SET news = NULL WHERE schedule_id = ? AND tick = ?",
                [(end.schedule_id, end.tick) for end in taken],
            )
            return True

    # --- inside -------------------------------------------------------------------------------------------------------

    def _edit(self, statement: str, *values: object) -> bool:
        with self._database.transaction() as (db, now):
            is_there = db.execute(statement, values).rowcount > 0
            if is_there:
                self._next(db, "revision", now)
            return is_there

    def _next(self, db: sqlite3.Connection, name: str, now: float) -> int:
        """The next number. Larger than the time, so that it grows also where the file was lost in between."""
        number = max(_number(db, name) + 1, int(now * 1000))
        _set_number(db, name, number)
        return number


def _number(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT value FROM number WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def _set_number(db: sqlite3.Connection, name: str, value: int) -> None:
    db.execute("INSERT OR REPLACE INTO number VALUES (?, ?)", (name, value))


def _renew(db: sqlite3.Connection, now: float, name: str, token: Token, seconds: float) -> bool:
    held = "UPDATE lease SET until = ? WHERE name = ? AND token = ? AND until > ?"
    return db.execute(held, (now + seconds, name, token, now)).rowcount > 0
