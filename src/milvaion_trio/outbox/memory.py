"""The outbox of a worker without a disk: everything in memory, nothing lost as long as the process lives.

If the process dies, the deliveries were not acked, so the broker hands the messages out again: a second run, no loss.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from attrs import define, field

from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.outbox.backlog import Backlog
from milvaion_trio.outbox.concluded import Concluded
from milvaion_trio.outbox.courier import Courier
from milvaion_trio.outbox.log_room import LogRoom
from milvaion_trio.outbox.statistics import OutboxStatistics
from milvaion_trio.ports import Publisher, Report, ReportKind

__all__ = ["MemoryOutbox"]

MAX_LOG_ROWS = 10_000
"""Log batches kept while the broker is away, at most 500,000 lines (RELIABILITY.md 2.3, S5 under fault B)."""

CONCLUDED_REMEMBERED = 10_000
"""A concluded attempt is asked for again only after a lost link, for deliveries that were not acked: no more than all
prefetches together, a few hundred. At about 300 bytes each there is no need to be exact."""

logger: logging.Logger = logging.getLogger("milvaion_trio.outbox")


@define(eq=False)
class MemoryOutbox:
    """Implements `ports.Outbox`. Refused rows are tried again for ever; they hold up only their own occurrence."""

    _max_log_rows: int = field(default=MAX_LOG_ROWS, kw_only=True)
    _backlog: Backlog = field(factory=Backlog, init=False)
    _courier: Courier = field(init=False)
    _concluded: Concluded = field(factory=lambda: Concluded(CONCLUDED_REMEMBERED), init=False)
    _log_room: LogRoom = field(factory=LogRoom, init=False)
    _is_open: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._courier = Courier(self._backlog)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve while open. What is not confirmed on leaving, cancelled or not, is gone; the log is told."""
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False
            if self._backlog.pending:
                logger.warning(
                    "outbox closed with unconfirmed reports, their jobs were not acked and run again: rows=%d",
                    self._backlog.pending,
                )

    def add(self, report: Report) -> bool:
        """Take a row. Dropped are heartbeats without a link or after the conclusion, and logs beyond the limit."""
        self._check_open()
        if report.kind is ReportKind.HEARTBEAT:
            if not self._courier.is_delivering:
                return False
        elif report.kind is ReportKind.LOG:
            has_room = self._backlog.pending_logs < self._max_log_rows
            if not self._log_room.let(has_room=has_room, limit=f"{self._max_log_rows} rows"):
                return False
        is_taken = self._backlog.append(report, report.occurrence_id)
        self._courier.wake()
        return is_taken

    async def conclude(self, attempt: AttemptKey, reports: Sequence[Report]) -> None:
        """Take all rows and remember the attempt in one step, then wait. If cancelled, only the waiting ends."""
        self._check_open()
        occurrence_id = attempt.occurrence_id
        for report in reports:
            self._backlog.append(report, occurrence_id)
        self._concluded.add(attempt)
        self._courier.wake()
        await self._courier.newest_settled(occurrence_id)

    def is_concluded(self, attempt: AttemptKey) -> bool:
        """Whether this attempt was concluded here, by this process and not too long ago."""
        return attempt in self._concluded

    async def settled(self, attempt: AttemptKey) -> None:
        """Return when no row of the occurrence is pending. If cancelled, nothing changes."""
        await self._courier.settled(attempt.occurrence_id)

    def begun(self, attempt: AttemptKey) -> None:
        """Nothing of it would outlive the process."""

    async def started(self, attempt: AttemptKey) -> None:
        """Nothing to note: a process that dies takes this outbox with it. There is no wait that could be cancelled."""

    def returned(self, attempt: AttemptKey) -> None:
        """Nothing was noted."""

    def deaths(self, attempt: AttemptKey, parked: int = 0) -> int:
        """0: nobody remembers."""
        return 0

    def on_trouble(self, tell: Callable[[str], None]) -> None:
        """Memory never is in trouble that a process survives."""

    async def deliver(self, publisher: Publisher) -> None:
        """Send rows over this link. If cancelled or lost, rows without a confirm stay, in order."""
        await self._courier.deliver(publisher)

    async def drained(self) -> None:
        """Return when no row is left. If cancelled, nothing changes."""
        await self._courier.drained()

    def statistics(self) -> OutboxStatistics:
        """The outbox in numbers."""
        return self._backlog.statistics(self._log_room.dropped)

    def _check_open(self) -> None:
        if not self._is_open:
            raise RuntimeError("this outbox is not open: use it inside `async with outbox.open()`")
