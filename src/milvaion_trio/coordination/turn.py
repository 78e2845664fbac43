"""Blocking work in a thread, one piece at a time and each for a limited time, so that no keeper ever stops Trio.

Separate from the adapters, whose work it does: a connection serves one request at a time, and a caller who was
cancelled, or waited too long, must not leave half an answer to the next one.
"""

from collections.abc import Callable
from typing import TypeVar

import trio
from attrs import define, field

from milvaion_trio.model.errors import LinkLost

__all__ = ["Turn"]

T = TypeVar("T")


@define(eq=False)
class Turn:
    """Whose turn it is. A thread that was left behind keeps its turn until it has ended."""

    _limiter: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(1), init=False)

    async def run(self, work: Callable[[], T], seconds: float, too_late: str) -> T:
        """What the work returns, or raises; `LinkLost` with this text when it and those before it take longer.

        If cancelled, or too late, work that had begun goes on to its end by itself, and work that had not is left.
        """
        with trio.move_on_after(seconds):
            return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)
        raise LinkLost(too_late)
