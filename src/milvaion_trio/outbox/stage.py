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
    the retry copy take different ways. It then opens its own stage, so that the end of one attempt waits neither for
    the next one nor takes its start for a late message of its own.
    """

    occurrence_id: OccurrenceId
    earlier: "Stage | None" = None
    """The stage before, if it was not settled when this one began."""
    pending: int = 0
    is_concluded: bool = False
    """Whether a final row came. A heartbeat is then too late, and a start belongs to the next stage."""
    _settled: trio.Event | None = None
    """Made by the first who waits, because most stages end unwatched."""

    def settle_one(self) -> bool:
        """Count a row out; `True` when it was the last."""
        self.pending -= 1
        if self.pending:
            return False
        if self._settled is not None:
            self._settled.set()
        return True

    def unsettled_before(self) -> "Stage | None":
        """The newest earlier stage that has rows pending."""
        stage = self.earlier
        while stage is not None and not stage.pending:
            stage = stage.earlier
        return stage

    async def settled(self) -> None:
        """Return when no row of it or of an earlier stage is pending. If cancelled, nothing changes."""
        stage: Stage | None = self if self.pending else self.unsettled_before()
        if stage is None:
            await trio.lowlevel.checkpoint()
        while stage is not None:
            await stage._last_row()
            stage = stage.unsettled_before()

    async def _last_row(self) -> None:
        if self._settled is None:
            self._settled = trio.Event()
        await self._settled.wait()
