"""Rows to confirmed publishes: one loop per link, as many rows at a time as are waiting.

Separate from the outboxes, which differ in where rows survive and share how they are sent.
There is no timer: while one batch waits for its confirms the next one gathers.
"""

import logging
from collections.abc import Callable, Sequence

import trio
from attrs import define, field

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.outbox.backlog import Backlog, Row
from milvaion_trio.ports import Confirmation, Link, Publisher

__all__ = ["Courier"]

BATCH = 500
"""Rows per publish. A report is about 1 kB, and a lost link can repeat a whole batch: half a megabyte at most."""

logger: logging.Logger = logging.getLogger("milvaion_trio.outbox")


def _nothing() -> None:
    """Nobody asked."""


@define(eq=False)
class Courier:
    """Sends the rows of a backlog over one link at a time."""

    _backlog: Backlog
    _on_fewer: Callable[[], None] = _nothing
    """Called when rows may have left the backlog."""
    is_delivering: bool = field(default=False, init=False)
    _new_rows: trio.Event = field(factory=trio.Event, init=False)
    _emptied: trio.Event = field(factory=trio.Event, init=False)
    _is_refused: bool = field(default=False, init=False)
    """Whether the log was told that the broker refuses rows."""

    def wake(self) -> None:
        """Say that a row was added."""
        self._new_rows.set()

    async def deliver(self, publisher: Publisher) -> None:
        """Send rows until the link is lost (`LinkLost`) or the call is cancelled; then those without a confirm stay."""
        if self.is_delivering:
            raise trio.BusyResourceError("this outbox is delivering over another link already")
        self.is_delivering = True
        lost = LinkLost()
        try:
            self._backlog.start_over()
            self.rows_left()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when_lost, publisher, nursery.cancel_scope)
                lost = await self._send_until_lost(publisher)
                nursery.cancel_scope.cancel()
        finally:
            self.is_delivering = False
        raise lost

    async def drained(self) -> None:
        """Return when no row is left. If cancelled, nothing changes."""
        if not self._backlog.pending:
            await trio.lowlevel.checkpoint()
        while self._backlog.pending:
            if self._emptied.is_set():
                self._emptied = trio.Event()
            await self._emptied.wait()

    async def newest_settled(self, occurrence_id: OccurrenceId) -> None:
        """Return when no row of the occurrence's newest stage is left; raises `ReportsLost`.

        At once where there is none, without a pass of the scheduler: for a job that nobody is told of it would be a
        sixth of the worker's CPU (151 against 126 us, benchmarks/peers). If cancelled, nothing changes.
        """
        stage = self._backlog.stage(occurrence_id)
        if stage is not None:
            await stage.settled()

    async def settled(self, occurrence_id: OccurrenceId) -> None:
        """Return when no row of the occurrence is left; raises `ReportsLost`. If cancelled, nothing changes."""
        await trio.lowlevel.checkpoint()
        while (stage := self._backlog.stage(occurrence_id)) is not None:
            await stage.settled()

    async def _send_until_lost(self, publisher: Publisher) -> LinkLost:
        """Send rows as they come. If cancelled, those without a confirm stay."""
        # The loss is returned: raised, the nursery would put it into a group.
        try:
            while True:
                if batch := self._backlog.take(BATCH, trio.current_time()):
                    await self._send(batch, publisher)
                else:
                    await self._more_rows()
        except LinkLost as lost:
            return lost

    async def _send(self, batch: Sequence[Row], publisher: Publisher) -> None:
        try:
            answers = await publisher.publish([row.report.publication for row in batch])
        except BaseException:
            self._backlog.give_back(batch)
            raise
        self._backlog.settle(batch, answers, trio.current_time())
        self.rows_left()
        self._log_refusals(batch, answers)

    async def _more_rows(self) -> None:
        """Return when there may be rows to send. If cancelled, nothing changes."""
        with trio.move_on_at(self._backlog.next_retry):
            await self._new_rows.wait()
        self._new_rows = trio.Event()

    def rows_left(self) -> None:
        """Say that rows may have left the backlog."""
        self._on_fewer()
        if not self._backlog.pending:
            self._emptied.set()

    def _log_refusals(self, batch: Sequence[Row], answers: Sequence[Confirmation]) -> None:
        """Log when refusals begin and when they are over, not each one."""
        if self._backlog.has_refused and not self._is_refused:
            row, answer = next(
                pair for pair in zip(batch, answers, strict=True) if pair[1] is not Confirmation.CONFIRMED
            )
            publication = row.report.publication
            logger.error(
                "broker does not take a report (%s), it is tried again until it does: exchange=%r routing_key=%r",
                answer.value,
                publication.exchange,
                publication.routing_key,
            )
        elif self._is_refused and not self._backlog.has_refused:
            logger.info("broker takes all reports again")
        self._is_refused = self._backlog.has_refused


async def _cancel_when_lost(link: Link, scope: trio.CancelScope) -> None:
    """For a courier that has nothing to send: it would not notice. If cancelled, nothing changes."""
    await link.lost()
    scope.cancel()
