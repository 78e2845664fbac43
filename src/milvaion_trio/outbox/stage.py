"""The rows of one attempt as one thing to wait for.

Separate from the backlog, which counts them in and out: this is what a conclusion waits on.
"""

import trio
from attrs import define

from milvaion_trio.model.errors import ReportsLost
from milvaion_trio.model.ids import OccurrenceId

__all__ = ["Stage"]


@define(eq=False)
class Stage:
    """The pending rows of an occurrence from the start of an attempt to its conclusion.

    The next attempt can start here before the conclusion of the last one is confirmed: a confirm and the delivery of
    the retry copy take different ways. It then opens its own stage. So the end of one attempt neither waits for the
    next one nor takes its start for a late message of its own; and the rows of a stage leave only when the stage before
    it is settled, so that whoever waits for the newest stage waits for all.
    """

    occurrence_id: OccurrenceId
    after: int = 0
    """The number of the last row before it."""
    earlier: "Stage | None" = None
    """The stage before, if it was not settled when this one began."""
    pending: int = 0
    finals: int = 0
    """How many of them are of the conclusion."""
    is_recovered: bool = False
    """Whether an earlier process left its rows, maybe of several attempts."""
    is_concluded: bool = False
    """Whether a final row came. A heartbeat is then too late, and a start belongs to the next stage."""
    is_lost: bool = False
    """Whether its conclusion was in a file that is gone."""
    _settled: trio.Event | None = None
    """Made by the first who waits, because most stages end unwatched."""

    @property
    def must_wait(self) -> bool:
        """Whether the stage before has rows pending."""
        return self.earlier is not None and self.earlier.pending > 0

    def settle_one(self, *, is_final: bool) -> bool:
        """Count a row out; `True` when it was the last."""
        self.pending -= 1
        self.finals -= is_final
        if self.pending:
            return False
        if self._settled is not None:
            self._settled.set()
        return True

    def lose_all_but(self, rows: int, finals: int) -> bool:
        """Only so many rows are left; `True` when some of the conclusion are lost."""
        has_lost_its_end = self.finals > finals
        self.pending, self.finals = rows, finals
        self.is_lost = self.is_lost or has_lost_its_end
        if self._settled is not None and (self.is_lost or not rows):
            self._settled.set()
        return has_lost_its_end

    async def settled(self) -> None:
        """Return when the last row that is pending now or comes meanwhile is out; raises `ReportsLost` if any was lost.

        If cancelled, nothing changes.
        """
        if self._settled is None:
            self._settled = trio.Event()
        await self._settled.wait()
        if self.is_lost:
            raise ReportsLost(
                f"The outbox file was lost while it alone held reports of occurrence {self.occurrence_id}: its job "
                "is run again."
            )
