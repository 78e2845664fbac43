"""The disk of a host, in virtual time: the worker's own outbox file, written by a writer that is as slow as it is told.

The SQL and the file are the real ones; only the thread is not, because nobody can say when a thread does something.
What was handed over and is not written when its process dies was never written.
"""

import shutil
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import trio
from attrs import define, field

from milvaion_trio.disk.writer import Done, Work, Writer
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.outbox.batch import Batch
from milvaion_trio.outbox.disk import DiskOutbox
from milvaion_trio.outbox.file import OutboxFile
from milvaion_trio.outbox.store import CONCLUDED
from milvaion_trio.runtime.reporting import label
from torture.simulation.plan import Point

__all__ = ["Disk", "Process"]

COMMIT: Final = 0.0
"""Seconds that a write takes on a good day: no time, and the next pass of the scheduler."""
LEAVE_TIMEOUT: Final = 5.0
"""Seconds for what is handed over when the outbox is left; as in `disk.writer`."""


class Process(Protocol):
    """Who writes to the disk."""

    name: str
    is_dead: bool

    def note(self, what: str, about: str = "", detail: str = "") -> None:
        """Something happened."""

    def reach(self, point: Point) -> None:
        """It comes by a point, where a trap may spring."""


@define(eq=False)
class Disk:
    """What a host keeps from one life to the next."""

    folder: Path
    on_loss: Callable[[], None]
    """Called when what it held is gone."""
    takes: float = field(default=COMMIT, init=False)
    """Seconds for a write."""
    is_full: bool = field(default=False, init=False)
    is_damaged: bool = field(default=False, init=False)
    """Whether the next use of the file finds it damaged."""
    _file: OutboxFile | None = field(default=None, init=False)

    def outbox(self, process: Process) -> DiskOutbox:
        """The outbox of a new life."""
        self._file = OutboxFile(self.folder / "sim.outbox.db", "OFF", process.name)
        return DiskOutbox(self._file, open_writer=partial(_writer, self, process))

    def let_go(self, *, lose: bool) -> None:
        """The process has died: what it wrote is there for the next one, unless the disk went with it."""
        if self._file is not None:
            self._file.close()
            # As it was while the process lived, which did not say that it left.
            self._file.path.with_suffix(".lock").write_bytes(b"")
            self._file = None
        if lose:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.on_loss()

    def use(self, work: Work) -> object:
        """Do the work, or fail as the disk does."""
        if self._file is not None and work == self._file.close:
            return work()
        if self.is_full:
            raise _sqlite_error(sqlite3.OperationalError("database or disk is full"), sqlite3.SQLITE_FULL)
        if self.is_damaged and isinstance(work, partial):  # opening it, the file's own code finds that out
            self.is_damaged = False
            self.on_loss()
            raise _sqlite_error(sqlite3.DatabaseError("database disk image is malformed"), sqlite3.SQLITE_CORRUPT)
        return work()


def _sqlite_error(error: sqlite3.DatabaseError, code: int) -> sqlite3.DatabaseError:
    error.sqlite_errorcode = code
    return error


@define(eq=False)
class _VirtualWriter:
    """Implements `Writer` on a disk."""

    _disk: Disk
    _process: Process
    _work: deque[tuple[Work, Done]] = field(factory=deque, init=False)
    _news: trio.Event = field(factory=trio.Event, init=False)
    _rested: trio.Event = field(factory=trio.Event, init=False)
    scope: trio.CancelScope = field(factory=lambda: trio.CancelScope(shield=True), init=False)

    def submit(self, work: Work, done: Done, *, is_large: bool = False) -> None:
        """Do it when what came before is done."""
        if not self._process.is_dead:
            self._work.append((work, done))
            self._news.set()

    async def run(self) -> None:
        """Write until `scope` is cancelled, whoever else is: it outlives those who hand over."""
        with self.scope:
            while True:
                await self._write_next()

    async def _write_next(self) -> None:
        if not self._work:
            self._news = trio.Event()
            await self._news.wait()
        await trio.sleep(self._disk.takes)
        if self._process.is_dead:
            await trio.sleep_forever()
        work, done = self._work.popleft()
        result, error = None, None
        try:
            result = self._disk.use(work)
        except Exception as raised:
            error = raised
        else:
            for attempt in _concluded_by(work):
                self._process.note("written", label(attempt))
            self._process.reach(Point.WRITTEN)
        if not self._process.is_dead:
            done(result, error)
        if not self._work:
            self._rested.set()

    async def rest_done(self) -> None:
        """Return when everything that was handed over is done. If cancelled, some is not."""
        if self._work and not self._process.is_dead:
            self._rested = trio.Event()
            await self._rested.wait()


@asynccontextmanager
async def _writer(disk: Disk, process: Process) -> AsyncIterator[Writer]:
    """An `OpenWriter`. On leaving, what was handed over is done first, unless the process is dead."""
    async with trio.open_nursery() as nursery:
        writer = _VirtualWriter(disk, process)
        nursery.start_soon(writer.run)
        try:
            yield writer
        finally:
            with trio.move_on_after(LEAVE_TIMEOUT, shield=True):
                await writer.rest_done()
            writer.scope.cancel()


def _concluded_by(work: Work) -> Iterator[AttemptKey]:
    """The attempts whose conclusion is in a batch that was written."""
    for part in getattr(work, "args", ()):
        if isinstance(part, Batch):
            yield from (attempt for attempt, mark in part.marks.items() if mark == CONCLUDED)
