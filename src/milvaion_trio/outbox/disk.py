"""The outbox of a worker with a disk: what is concluded survives the process.

Memory holds the head of the queue, the file all of it, so an outage may be as long as the disk is large. Rows are sent
after they are written, so that no restart can meet a message that it does not know. What cannot be written, because
the disk is full say, goes on in memory and is written later; no loss depends on the file, since the ack comes last.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from attrs import define, evolve, field

from milvaion_trio.disk.writer import OpenWriter, open_writer
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.outbox.backlog import Backlog, Row
from milvaion_trio.outbox.concluded import Concluded
from milvaion_trio.outbox.courier import Courier
from milvaion_trio.outbox.file import OutboxFile
from milvaion_trio.outbox.journal import Journal
from milvaion_trio.outbox.log_room import LogRoom
from milvaion_trio.outbox.memory import MAX_LOG_ROWS
from milvaion_trio.outbox.statistics import OutboxStatistics
from milvaion_trio.outbox.store import ATTEMPTS_REMEMBERED, CONCLUDED, RETURNED, RUNNING, Mark, Recovered, StoredReport
from milvaion_trio.ports import Publisher, Report, ReportKind

__all__ = ["DiskOutbox"]

HEAD_ROWS: Final = 2_000
HEAD_BYTES: Final = 16 * 1024 * 1024
"""Rows in memory: a second of work for the fastest broker measured, so that reading more is never waited for."""
PAGE: Final = 1_000
"""Rows that are read at a time."""
LOG_QUOTA: Final = 128 * 1024 * 1024
"""Bytes of job logs in the file; statuses are bounded by the prefetch."""
LOG_RETENTION: Final = 86_400.0
"""Seconds after which a log that could not be sent is dropped, as in the .NET SDK (WIRE.md 10)."""

_log = logging.getLogger("milvaion_trio.outbox")


@define(eq=False)
class DiskOutbox:
    """Implements `ports.Outbox`. Refused rows are tried again for ever; they hold up only their own occurrence."""

    _file: OutboxFile
    _log_retention: float = field(default=LOG_RETENTION, kw_only=True)
    _open_writer: OpenWriter = field(default=open_writer, kw_only=True)
    _now: Callable[[], float] = field(default=time.time, kw_only=True)
    _journal: Journal = field(init=False)
    _backlog: Backlog = field(factory=Backlog, init=False)
    _courier: Courier = field(init=False)
    _concluded: Concluded = field(factory=lambda: Concluded(ATTEMPTS_REMEMBERED), init=False)
    _deaths: dict[AttemptKey, int] = field(factory=dict, init=False)
    _running: set[AttemptKey] = field(factory=set, init=False)
    _log_room: LogRoom = field(factory=LogRoom, init=False)
    _only_stored: int = field(default=0, init=False)
    """Rows that are in the file and not in memory: those behind `_stored_after`."""
    _stored_after: int = field(default=0, init=False)
    """The number of the last stored row that was queued."""
    _is_reading: bool = field(default=False, init=False)
    _held: dict[int, Row] = field(factory=dict, init=False)
    """Rows behind all that are in the file, which could not be written themselves; by number, in order."""
    _is_open: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._courier = Courier(self._backlog, self._fewer)
        self._journal = Journal(self._file, self._open_writer, self)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve while open. On leaving, cancelled or not, all of it is in the file unless that cannot be written.

        Raises `SettingsError` where a person has to act: the file belongs to another worker, or may not be written.
        What may pass, such as a full disk, is waited for.
        """
        async with self._journal.open() as recovered:
            self._take_over(recovered)
            self._is_open = True
            try:
                yield
            finally:
                self._is_open = False
        rows = self._backlog.lasting()
        stored = self._only_stored + sum(row.is_stored for row in rows)
        if stored:
            _log.info("reports stay in %s and are sent at the next start: rows=%d", self._file.path, stored)
        if unwritten := len(rows) + len(self._held) + self._only_stored - stored:
            _log.warning(
                "outbox closed with reports that could not be written, their jobs run again: rows=%d", unwritten
            )

    def _take_over(self, left: Recovered) -> None:
        """Go on where an earlier process ended."""
        for attempt in left.concluded[-ATTEMPTS_REMEMBERED:]:
            self._concluded.add(attempt)
        self._deaths.update(left.deaths)
        for tally in left.tallies:
            self._backlog.recount(tally)
        self._only_stored = self._backlog.pending
        self._backlog.last_number = left.last_number
        if self._only_stored:
            _log.info("reports of an earlier process are sent now: rows=%d", self._only_stored)
        self._fill_head()

    # --- the port -----------------------------------------------------------------------------------------------------

    def add(self, report: Report) -> bool:
        """Take a row. Dropped are heartbeats without a link or after the conclusion, and logs beyond the quota.

        A Running row is not written: whoever meets its message again sends another one.
        """
        self._check_open()
        kind, backlog = report.kind, self._backlog
        if kind is ReportKind.HEARTBEAT and not self._courier.is_delivering:
            return False
        if kind is ReportKind.LOG and not self._has_room_for(report):
            return False
        row = backlog.enter(report, report.occurrence_id)
        if row is None:
            return False
        if kind is not ReportKind.LOG and kind is not ReportKind.FINAL:
            if row.stage is None or not row.stage.must_wait:
                backlog.queue(row)
                self._courier.wake()
                return True
            if kind is ReportKind.HEARTBEAT:
                backlog.forget(row)
                return False
        self._journal.add((row,))
        return True

    async def conclude(self, attempt: AttemptKey, reports: Sequence[Report]) -> None:
        """Write all rows and the mark in one transaction, then wait. If cancelled, only the waiting ends.

        A mark without rows, for which nobody waits, goes with what is written next, 50 ms later at most: a process that
        dies meanwhile is counted as a death of that attempt, should its message come again all the same.
        """
        self._check_open()
        occurrence_id = attempt.occurrence_id
        rows = [row for report in reports if (row := self._backlog.enter(report, occurrence_id)) is not None]
        self._concluded.add(attempt)
        self._running.discard(attempt)
        self._deaths.pop(attempt, None)
        if rows:
            self._journal.add(rows, {attempt: CONCLUDED})
        else:
            self._journal.mark_soon(attempt, CONCLUDED)
        await self._courier.newest_settled(occurrence_id)

    def is_concluded(self, attempt: AttemptKey) -> bool:
        """Whether this attempt was concluded here, by this process or an earlier one, and not too long ago."""
        return attempt in self._concluded

    async def settled(self, attempt: AttemptKey) -> None:
        """Return when no row of the occurrence is pending; raises `ReportsLost`. If cancelled, nothing changes."""
        await self._courier.settled(attempt.occurrence_id)

    async def started(self, attempt: AttemptKey) -> None:
        """Write that it runs, and return when that is done, or cannot be. If cancelled, it may be written."""
        self._runs(attempt)
        batch = self._journal.mark(attempt, RUNNING)
        if self._journal.trouble is None:
            await batch.tried.wait()

    def begun(self, attempt: AttemptKey) -> None:
        """Write that it runs, with what is written next; of one that has ended by then only the end is written."""
        self._runs(attempt)
        self._journal.mark_soon(attempt, RUNNING)

    def _runs(self, attempt: AttemptKey) -> None:
        self._check_open()
        self._running.add(attempt)
        self._concluded.withdraw(attempt)  # another one of the same name, whose stamp a .NET worker dropped

    def returned(self, attempt: AttemptKey) -> None:
        """Write that it no longer runs, unless it is concluded: then only the ack is missing."""
        self._running.discard(attempt)
        if attempt not in self._concluded:
            self._journal.mark(attempt, RETURNED)

    def deaths(self, attempt: AttemptKey, parked: int = 0) -> int:
        """How many processes that had this file died while the attempt ran, also under so many earlier keys of it."""
        if not parked:
            return self._deaths.get(attempt, 0)
        first = evolve(attempt, snoozes=max(0, attempt.snoozes - parked))
        return sum(
            count
            for other, count in self._deaths.items()
            if first.snoozes <= other.snoozes <= attempt.snoozes and evolve(other, snoozes=first.snoozes) == first
        )

    def on_trouble(self, tell: Callable[[str], None]) -> None:
        """Tell when the file cannot be written, and when it can again."""
        self._journal.on_trouble(tell)

    async def deliver(self, publisher: Publisher) -> None:
        """Send rows over this link. If cancelled or lost, rows without a confirm stay, in order."""
        await self._courier.deliver(publisher)

    async def drained(self) -> None:
        """Return when no row is left. If cancelled, nothing changes."""
        await self._courier.drained()

    def statistics(self) -> OutboxStatistics:
        """The outbox in numbers."""
        return self._backlog.statistics(self._log_room.dropped)

    # --- for the journal ----------------------------------------------------------------------------------------------

    def stored(self, rows: Sequence[Row]) -> None:
        """Those that were held stay where they are, now in the file; new ones may be sent."""
        fresh = []
        for row in rows:
            if self._held.pop(row.number, None) is not None:
                self._only_stored += 1
            elif not row.is_queued:
                fresh.append(row)
        self._arrive(fresh)
        self._fill_head()

    def unstored(self, rows: Sequence[Row]) -> None:
        """They may be sent all the same."""
        self._arrive([row for row in rows if not row.is_queued and row.number not in self._held])

    def file_lost(self, unstored: Sequence[Row]) -> tuple[Sequence[Row], Mapping[AttemptKey, Mark]]:
        """What was only there is lost, and what it concluded runs again. The new file is told all that memory has."""
        self._only_stored = 0
        self._concluded.discard(self._backlog.lose([row for row in unstored if not row.is_queued]))
        self._courier.rows_left()
        marks = {**dict.fromkeys(self._concluded, CONCLUDED), **dict.fromkeys(self._running, RUNNING)}
        return self._backlog.lasting(), marks

    # --- towards the courier ------------------------------------------------------------------------------------------

    def _arrive(self, rows: Sequence[Row]) -> None:
        """Let rows be sent where they are next; the others wait in the file, or in memory where they are not there.

        A conclusion is not divided: what of it was sent must not be all that there is when the file is lost.
        """
        stage = None
        for row in rows:
            is_next = not self._only_stored and not self._held
            if is_next and (self._has_room or (stage is not None and row.stage is stage)):
                self._queue(row)
                stage = row.stage
            elif row.is_stored:
                self._only_stored += 1
            else:
                self._held[row.number] = row

    def _queue(self, row: Row) -> None:
        self._stored_after = max(self._stored_after, row.number)
        self._backlog.queue(row)
        self._courier.wake()

    @property
    def _has_room(self) -> bool:
        return self._backlog.queued < HEAD_ROWS and self._backlog.queued_bytes < HEAD_BYTES

    def _fewer(self) -> None:
        """Rows may have left: remove them from the file, and let others move up."""
        if gone := self._backlog.gone_from_file:
            self._journal.remove(gone)
            gone.clear()
        self._fill_head()

    def _fill_head(self) -> None:
        while self._held and not self._only_stored and self._has_room:
            self._queue(self._held.pop(next(iter(self._held))))
        backlog = self._backlog
        if (
            self._only_stored
            and not self._is_reading
            and self._journal.is_readable
            and backlog.queued <= HEAD_ROWS // 2
            and backlog.queued_bytes <= HEAD_BYTES // 2
        ):
            self._is_reading = True
            self._journal.read(self._stored_after, PAGE, self._page)

    def _page(self, found: Sequence[StoredReport]) -> None:
        self._is_reading = False
        if not self._only_stored or not found:  # lost meanwhile with their file, or not readable now
            if self._journal.trouble is None:
                self._fill_head()
            return
        unwritten = self._journal.unwritten()
        oldest_log = self._now() - self._log_retention
        for stored in found:
            if (known := unwritten.get(stored.number)) is not None:  # an error was told although it had been written
                self._held.pop(stored.number, None)
                if not known.is_queued:
                    self._queue(known)
                continue
            self._only_stored -= 1
            row = self._backlog.again(stored.report, stored.number)
            if row.report.kind is ReportKind.LOG and stored.written_at < oldest_log:
                self._log_room.dropped += 1
                self._stored_after = max(self._stored_after, row.number)
                self._backlog.forget(row)
            else:
                self._queue(row)
        self._courier.rows_left()

    def _has_room_for(self, log: Report) -> bool:
        backlog = self._backlog
        if self._journal.trouble is not None:
            # Those that wait in the file count too: it says nothing of what memory holds, and is no more than that.
            has_room = backlog.pending_logs < MAX_LOG_ROWS and backlog.pending_log_bytes < HEAD_BYTES
            return self._log_room.let(has_room=has_room, limit=f"{HEAD_BYTES >> 20} MiB while they cannot be written")
        size = backlog.pending_log_bytes + len(log.publication.message.body)
        return self._log_room.let(has_room=size <= LOG_QUOTA, limit=f"{LOG_QUOTA >> 20} MiB")

    def _check_open(self) -> None:
        if not self._is_open:
            raise RuntimeError("this outbox is not open: use it inside `async with outbox.open()`")
