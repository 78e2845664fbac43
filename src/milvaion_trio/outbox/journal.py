"""What goes into the outbox file, and when: eagerly, in batches, and again for as long as it cannot be written.

While one batch is being written the next one gathers, and what comes in one pass of the scheduler goes together: the
busier the worker, the larger the batches.
Separate from the outbox, which knows what rows mean; here they only get into the file, or are known not to be there.
"""

import logging
import math
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Protocol, cast

import trio
from attrs import define, field

from milvaion_trio.disk.sqlite_file import error_code
from milvaion_trio.disk.writer import OpenWriter, Work, Writer
from milvaion_trio.model.alarm import Alarm
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.outbox.backlog import Row
from milvaion_trio.outbox.batch import Batch
from milvaion_trio.outbox.file import OutboxFile
from milvaion_trio.outbox.store import Damaged, Mark, Recovered, StoredReport

__all__ = ["Journal", "Owner"]

RETRY: Final = 1.0
"""Seconds between two tries to write what could not be written."""
LONGEST_RETRY: Final = 8.0
"""Seconds; the time doubles up to this for trouble that comes back, such as a disk on which only a little is free."""
CALM: Final = 60.0
"""Seconds without trouble after which the next one is a new one."""
SLOW: Final = 3.0
"""Seconds in which a disk has to write a batch, which takes milliseconds. One that hangs is noticed in twice that."""
SOON: Final = 0.05
"""Seconds that something may wait for company: far less than a process needs to be started again."""
LARGE: Final = 16
"""Rows, marks and numbers of rows in a batch that Trio's thread stands still for. For fewer it costs more than it
gains, as with jobs that bring 64 kB of data (benchmarks/peers/growth.py), of which there are one or two in a batch."""
LEAVE_TIMEOUT: Final = 0.5
"""Seconds to write what is left, on leaving: it comes on top of the budgets of a shutdown, 29 of Kubernetes' 30."""

_log = logging.getLogger("milvaion_trio.outbox")


class Owner(Protocol):
    """Whose rows they are; told in Trio's thread."""

    def stored(self, rows: Sequence[Row]) -> None:
        """They are in the file; `Row.is_stored` says so."""

    def unstored(self, rows: Sequence[Row]) -> None:
        """They cannot be written now, and will be when that is possible. In order; of some it was told before."""

    def file_lost(self, unstored: Sequence[Row]) -> tuple[Sequence[Row], Mapping[AttemptKey, Mark]]:
        """The file is a new one: what only the old one held is gone. These rows were not in it.

        Returns what the new one has to know: rows that memory has, and the last words on attempts.
        """


@define(eq=False)
class Journal:
    """The file as seen from Trio: no task waits for the disk but `open` and those who await a batch.

    Trio's thread stands still for a large batch, for milliseconds at most, and the less often the slower the disk.
    """

    file: OutboxFile
    _open_writer: OpenWriter
    _owner: Owner
    _writer: Writer = field(init=False)
    _gathering: Batch = field(factory=Batch, init=False)
    """What is to be written next; in trouble, all that is not written."""
    _writing: Batch | None = field(default=None, init=False)
    _is_mending: bool = field(default=False, init=False)
    """Whether what is being written was told to be unstored before."""
    _is_leaving: bool = field(default=False, init=False)
    _files: int = field(default=0, init=False)
    """How many files there were, so that what is read of an earlier one is known."""
    trouble: Exception | None = field(default=None, init=False)
    """Why the file cannot be written."""
    _troubled: trio.Event = field(factory=trio.Event, init=False)
    _something_soon: trio.Event = field(factory=trio.Event, init=False)
    _gathered: trio.Event = field(factory=trio.Event, init=False)
    _handed_over: trio.Event = field(factory=trio.Event, init=False)
    _retry: float = field(default=RETRY, init=False)
    _mended_at: float = field(default=-math.inf, init=False)
    _alarm: Alarm = field(factory=Alarm, init=False)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Recovered]:
        """Write while open. On leaving, cancelled or not, all is in the file unless that cannot be written.

        Raises `SettingsError` where a person has to act; what may pass, such as a full disk, is waited for.
        """
        async with self._open_writer() as writer:
            self._writer = writer
            try:
                recovered = await self._first_opened()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._hand_over_gathered)
                    nursery.start_soon(self._mend_when_troubled)
                    nursery.start_soon(self._notice_a_hang)
                    nursery.start_soon(self._hand_over_soon)
                    try:
                        yield recovered
                    finally:
                        self._is_leaving = True
                        with trio.move_on_after(LEAVE_TIMEOUT, shield=True):
                            await self._leave()
                        nursery.cancel_scope.cancel()
            finally:
                # Behind all that was handed over, which the writer does first on leaving.
                writer.submit(self.file.close, _whatever)

    # --- what is to be written ----------------------------------------------------------------------------------------

    def mark(self, attempt: AttemptKey, mark: Mark) -> Batch:
        """Write the last word on an attempt; the batch it is written with."""
        batch = self._gathering
        batch.marks[attempt] = mark
        self._gather()
        return batch

    def mark_soon(self, attempt: AttemptKey, mark: Mark) -> None:
        """Write the last word on an attempt with whatever is written next, after `SOON` at the latest."""
        self._gathering.marks[attempt] = mark
        self._something_soon.set()

    def add(self, rows: Sequence[Row], marks: Mapping[AttemptKey, Mark] | None = None) -> None:
        """Write rows, and in the same transaction the last words on attempts."""
        self._gathering.marks.update(marks or {})
        self._gathering.rows.extend(rows)
        if self._goes_on_in_memory:
            self._owner.unstored(rows)
        self._gather()

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove rows."""
        self._gathering.forgotten.extend(numbers)
        self._gather()

    def unwritten(self) -> dict[int, Row]:
        """The rows that are known here and not in the file, as far as anybody can tell."""
        writing = () if self._writing is None else self._writing.rows
        return {row.number: row for row in (*writing, *self._gathering.rows)}

    @property
    def is_readable(self) -> bool:
        """Whether what was written can be read: a full disk keeps nobody from that."""
        return self.trouble is None or (_is_full(self.trouble) and not self.file.is_another)

    def read(self, after: int, limit: int, done: Callable[[Sequence[StoredReport]], None]) -> None:
        """Read the next rows behind that number, then call `done` with at least one; with none if that cannot be."""
        files = self._files

        def finish(found: object, error: Exception | None) -> None:
            if files != self._files:
                done(())  # it was another file
                return
            if error is not None and self.trouble is None:
                self._in_trouble(error)
            done(cast("Sequence[StoredReport]", found or ()))

        self._writer.submit(partial(self._read, after, limit), finish)

    def on_trouble(self, tell: Callable[[str], None]) -> None:
        """Tell when the file cannot be written, and when it can again."""
        self._alarm.listen(tell)

    # --- writing ------------------------------------------------------------------------------------------------------

    @property
    def _goes_on_in_memory(self) -> bool:
        """Whether rows need not be stored to be sent. In order: not before it is known what became of earlier ones."""
        return self.trouble is not None and (self._writing is None or self._is_mending)

    def _gather(self) -> None:
        if self._writing is None and self.trouble is None:
            self._gathered.set()

    async def _hand_over_gathered(self) -> None:
        """Hand over in the next pass, with all that came in the same one: half as many transactions.

        Runs until cancelled; what is not handed over then, `_leave` hands over.
        """
        while True:
            await self._gathered.wait()
            self._gathered = trio.Event()
            self._hand_over()

    def _hand_over(self) -> None:
        if self._writing is None and self.trouble is None and self._gathering:
            self._writing, self._gathering = self._gathering, Batch()
            self._writer.submit(
                partial(self._write, self._writing), self._written, is_large=len(self._writing) >= LARGE
            )
            self._handed_over.set()

    def _written(self, is_new: object, error: Exception | None) -> None:
        """What became of it; `is_new` is whether the file is another one, `None` where nobody looked."""
        batch, self._writing = self._writing, None
        if batch is None:
            raise AssertionError("nothing was being written")
        was_mending, self._is_mending = self._is_mending, False
        if error is not None:
            self._in_trouble(error, batch)
        else:
            if was_mending:
                self._mended(batch, is_new=bool(is_new))
            for row in batch.rows:
                row.is_stored = True
            self._gathering.forgotten.extend(row.number for row in batch.rows if row.is_gone)
            self._owner.stored([row for row in batch.rows if not row.is_gone])
        if self.trouble is not None:
            self._owner.unstored([row for row in self._gathering.rows if not row.is_gone])
        batch.tried.set()
        self._hand_over()

    def _in_trouble(self, error: Exception, unwritten: Batch | None = None) -> None:
        """What comes goes on in memory, and is written when that is possible again, with what could not be now."""
        self._gathering.tried.set()  # nobody waits for a disk that cannot
        self._gathering = Batch.of(unwritten or Batch(), self._gathering)
        is_known, self.trouble = self.trouble is not None, error
        if not is_known:
            is_back = trio.current_time() - self._mended_at < CALM
            self._retry = min(2 * self._retry, LONGEST_RETRY) if is_back else RETRY
            _log.error("the outbox %s cannot be written, it goes on in memory: %s", self.file.path, error)
            self._troubled.set()
            self._alarm.say(f"the outbox {self.file.path} cannot be written: {error}")

    # --- in the writer's thread ---------------------------------------------------------------------------------------

    def _write(self, batch: Batch) -> None:
        if self.file.store is None:
            raise sqlite3.OperationalError("the outbox is not open")
        batch.write_to(self.file.store)

    def _read(self, after: int, limit: int) -> list[StoredReport]:
        if self.file.store is None:
            raise sqlite3.OperationalError("the outbox is not open")
        if not (found := self.file.store.read(after, limit)):
            raise Damaged("rows are missing that were written")
        return found

    def _write_again(self, batch: Batch, error: Exception | None) -> bool:
        """`True` when it is a new file."""
        if self.file.store is not None and _is_full(error):
            self.file.store.make_room()
            if not self.file.has_room() and not self._is_leaving:
                raise cast("Exception", error).with_traceback(None)
        else:
            self.file.reopen(error)
        self._write(batch)
        is_new, self.file.is_another = self.file.is_another, False
        return is_new

    # --- trouble ------------------------------------------------------------------------------------------------------

    async def _mend_when_troubled(self) -> None:
        """Try to write again until it works. Runs until cancelled."""
        while True:
            await self._troubled.wait()
            await trio.sleep(self._retry)
            await self._mend()

    async def _mend(self) -> None:
        """One try. If cancelled, it goes on."""
        if self._writing is None:
            self._writing, self._gathering = self._gathering, Batch()
            self._is_mending = True
            self._writer.submit(partial(self._write_again, self._writing, self.trouble), self._written)
        await self._writing.tried.wait()

    async def _hand_over_soon(self) -> None:
        """Write what was to be written soon and had no company. Runs until cancelled."""
        while True:
            await self._something_soon.wait()
            await trio.sleep(SOON)
            self._something_soon = trio.Event()
            self._hand_over()

    async def _notice_a_hang(self) -> None:
        """Let all go on in memory while a disk does not even say that it cannot write. Runs until cancelled."""
        while True:
            await self._handed_over.wait()
            self._handed_over = trio.Event()
            batch = self._writing
            await trio.sleep(SLOW)
            if self._writing is None:
                continue
            self._handed_over.set()
            if self._writing is batch and self.trouble is None:
                self._is_mending = True  # when it answers after all, the trouble is over
                self._in_trouble(TimeoutError(f"the disk has not answered for {SLOW:g} s"))
                self._owner.unstored([row for row in (*batch.rows, *self._gathering.rows) if not row.is_gone])
                batch.tried.set()

    def _mended(self, batch: Batch, *, is_new: bool) -> None:
        self.trouble, self._troubled = None, trio.Event()
        self._mended_at = trio.current_time()
        if is_new:
            self._files += 1
            unstored = [row for row in (*batch.rows, *self._gathering.rows) if not row.is_gone]
            rows, marks = self._owner.file_lost(unstored)
            self._gathering.rows[:0] = rows
            self._gathering.marks = {**marks, **self._gathering.marks}
        _log.warning("the outbox %s is written again", self.file.path)
        self._alarm.say("")

    # --- open and closed ----------------------------------------------------------------------------------------------

    async def _first_opened(self) -> Recovered:
        """Open the file as soon as that is possible. If cancelled, it may be open."""
        has_told = False
        while True:
            try:
                return cast("Recovered", await self._perform(self.file.open))
            except (OSError, sqlite3.Error) as error:
                if not has_told:
                    _log.error("the outbox %s cannot be opened, it is tried until it can: %s", self.file.path, error)
                    has_told = True
            await trio.sleep(RETRY)

    async def _leave(self) -> None:
        """Write what is not written. If cancelled, some is not."""
        await self._written_down()
        if self.trouble is not None:
            await self._mend()
            await self._written_down()

    async def _written_down(self) -> None:
        while self.trouble is None and (self._writing or self._gathering):
            batch = self._writing or self._gathering
            self._hand_over()
            await batch.tried.wait()

    async def _perform(self, work: Work) -> object:
        """Do it in the writer's thread; raises what it raises. If cancelled, it is done all the same."""
        done = trio.Event()
        outcome: list[tuple[object, Exception | None]] = []

        def finish(result: object, error: Exception | None) -> None:
            outcome.append((result, error))
            done.set()

        self._writer.submit(work, finish)
        await done.wait()
        result, error = outcome[0]
        if error is not None:
            raise error
        return result


def _whatever(_: object, error: Exception | None) -> None:
    if error is not None:
        _log.warning("the outbox could not be closed: %s", error)


def _is_full(error: Exception | None) -> bool:
    return error is not None and error_code(error) == sqlite3.SQLITE_FULL
