"""The rows of one attempt as one thing to wait for.

Separate from the backlog, which counts them in and out: this is what a conclusion waits on.
"""

import trio
from attrs import define

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
    earlier: "Stage | None" = None
    """The stage before, if it was not settled when this one began."""
    pending: int = 0
    is_concluded: bool = False
    """Whether a final row came. A heartbeat is then too late, and a start belongs to the next stage."""
    _settled: trio.Event | None = None
    """Made by the first who waits, because most stages end unwatched."""

    @property
    def must_wait(self) -> bool:
        """Whether the stage before has rows pending."""
        return self.earlier is not None and self.earlier.pending > 0

    def settle_one(self) -> bool:
        """Count a row out; `True` when it was the last."""
        self.pending -= 1
        if self.pending:
            return False
        if self._settled is not None:
            self._settled.set()
        return True

    async def settled(self) -> None:
        """Return when the last row that is pending now or comes meanwhile is out. If cancelled, nothing changes."""
        if self._settled is None:
            self._settled = trio.Event()
        await self._settled.wait()
