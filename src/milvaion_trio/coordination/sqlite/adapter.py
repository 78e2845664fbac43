"""`SqliteCoordination`: the port, in front of a store.

A file is asked in a thread: a disk may be slow, and another process may have the lock. Memory is asked at once, as
a thread would cost more than the answer, and because virtual time does not wait for threads.
"""

import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

import trio
from attrs import define, field

from milvaion_trio.coordination.sqlite.database import BUSY_TIMEOUT, MEMORY, UnusableFile
from milvaion_trio.coordination.sqlite.store import Store
from milvaion_trio.coordination.turn import Turn
from milvaion_trio.disk.sqlite_file import error_code
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.schedule import Entry, Millis, Progress, RunEnd, Schedule
from milvaion_trio.ports.coordination import Beat, Token

__all__ = ["SqliteCoordination"]

_TIME_LIMIT: Final = BUSY_TIMEOUT + 3.0
"""Seconds for a request, with those before it."""
_LEAVE_TIMEOUT: Final = 0.5
"""Seconds to close the file on leaving."""

_DAMAGED: Final = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))

P = ParamSpec("P")
T = TypeVar("T")


def _absolute(place: str | Path) -> str:
    """Seen from where the process is now: a job may go elsewhere."""
    return MEMORY if place == MEMORY else str(Path(place).absolute())


@define(eq=False)
class SqliteCoordination:
    """Implements `ports.coordination.Coordination`, and all that belongs to it, with one file or in memory.

    Memory keeps everything as long as this object lives, a file for ever.
    """

    place: str = field(default=MEMORY, converter=_absolute)
    """Path of the file, made where it is missing; `:memory:` for none."""
    clock: Callable[[], float] = time.time
    """Seconds; processes that share a file need the same, and one that goes on when they have ended."""
    _store: Store = field(init=False)
    _turn: Turn = field(factory=Turn, init=False)
    _openings: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        """Open nothing yet."""
        self._store = Store(self.place, self.clock)

    @property
    def name(self) -> str:
        """For messages to people."""
        return "the memory of this process" if self.place == MEMORY else f"the file {self.place}"

    @property
    def leases(self) -> "SqliteCoordination":
        """Who may do what only one may."""
        return self

    @property
    def claims(self) -> "SqliteCoordination":
        """Which occurrence a key belongs to."""
        return self

    @property
    def book(self) -> "SqliteCoordination":
        """The schedules."""
        return self

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Use it while the context is open; several may have it open at a time, and the last one closes the file."""
        self._openings += 1
        try:
            yield
        finally:
            self._openings -= 1
            if not self._openings and self.place != MEMORY:
                # A disk that answers nothing keeps its thread, which ends with the process.
                with trio.CancelScope(shield=True), contextlib.suppress(LinkLost):
                    await self._turn.run(self._store.close, _LEAVE_TIMEOUT, "")

    # --- leases -------------------------------------------------------------------------------------------------------

    async def acquire(self, name: str, holder: str, seconds: float) -> Token | None:
        """See `Leases.acquire`. If cancelled, it may be held."""
        return await self._ask(Store.acquire, name, holder, seconds)

    async def renew(self, name: str, token: Token, seconds: float) -> bool:
        """See `Leases.renew`. If cancelled, it may be done."""
        return await self._ask(Store.renew, name, token, seconds)

    async def release(self, name: str, token: Token) -> bool:
        """See `Leases.release`. If cancelled, it may be done."""
        return await self._ask(Store.release, name, token)

    async def end_leases(self) -> None:
        """End all leases: for who knows that their holders have died. If cancelled, it may be done."""
        await self._ask(Store.end_leases)

    # --- claims -------------------------------------------------------------------------------------------------------

    async def claim(self, key: str, occurrence_id: OccurrenceId, seconds: float) -> OccurrenceId:
        """See `Claims.claim`. If cancelled, it may be claimed."""
        return await self._ask(Store.claim, key, occurrence_id, seconds)

    async def give_up(self, key: str, occurrence_id: OccurrenceId) -> bool:
        """See `Claims.give_up`. If cancelled, it may be done."""
        return await self._ask(Store.give_up, key, occurrence_id)

    # --- the book -----------------------------------------------------------------------------------------------------

    async def put(self, schedule: Schedule, now: Millis) -> bool:
        """See `ScheduleBook.put`. If cancelled, it may be done."""
        return await self._ask(Store.put, schedule, now)

    async def remove(self, schedule_id: str) -> bool:
        """See `ScheduleBook.remove`. If cancelled, it may be done."""
        return await self._ask(Store.remove, schedule_id)

    async def pause(self, schedule_id: str) -> bool:
        """See `ScheduleBook.pause`. If cancelled, it may be done."""
        return await self._ask(Store.pause, schedule_id)

    async def resume(self, schedule_id: str, now: Millis) -> bool:
        """See `ScheduleBook.resume`. If cancelled, it may be done."""
        return await self._ask(Store.resume, schedule_id, now)

    async def read(self) -> tuple[int, Sequence[Entry]]:
        """See `ScheduleBook.read`. If cancelled, nothing changes."""
        return await self._ask(Store.read)

    async def ended(self, end: RunEnd) -> None:
        """See `ScheduleBook.ended`. If cancelled, it may be kept."""
        await self._ask(Store.ended, end)

    async def has_ended(self, schedule_id: str, tick: Millis) -> bool:
        """See `ScheduleBook.has_ended`. If cancelled, nothing changes."""
        return await self._ask(Store.has_ended, schedule_id, tick)

    async def beat(self, token: Token, seconds: float) -> Beat | None:
        """See `ScheduleBook.beat`. If cancelled, it may be renewed."""
        return await self._ask(Store.beat, token, seconds)

    async def advance(self, token: Token, progress: Mapping[str, Progress], taken: Sequence[RunEnd]) -> bool:
        """See `ScheduleBook.advance`. If cancelled, all of it or nothing is written."""
        return await self._ask(Store.advance, token, dict(progress), tuple(taken))

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _ask(self, method: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        work = partial(self._answer, partial(method, self._store, *args, **kwargs))
        if self.place == MEMORY:
            await trio.lowlevel.checkpoint()
            return work()
        return await self._turn.run(work, _TIME_LIMIT, f"{self.name}: no answer within {_TIME_LIMIT:g} s")

    def _answer(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (OSError, sqlite3.Error, UnusableFile) as error:
            why = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
            if isinstance(error, UnusableFile) or error_code(error) in _DAMAGED:
                why += ". Move it away, and a new one is made, without schedules that only it has"
            raise LinkLost(f"{self.name}, which keeps the schedules, cannot be used: {why}") from error
