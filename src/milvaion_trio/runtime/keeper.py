"""The coordination as runs use it: nobody waits long for it, and its absence is told once.

Separate from those who ask (leases of runs, what is told after them), as they share what is known of it: while it is
away, one of them tries now and then, and the others do not wait for it at all.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from attrs import define, field

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.ports.coordination import Coordination

__all__ = ["ANSWER_PATIENCE", "Keeper"]

T = TypeVar("T")

ANSWER_PATIENCE = 2.0
"""Seconds for one answer; on a network that works it takes a millisecond."""
TRY_AGAIN = 2.0
"""Seconds between two tries while it is away, of those that need not insist."""
NONE = "this worker has no Redis (Worker:Redis:ConnectionString), where workers would share them"

_log = logging.getLogger("milvaion_trio.runtime")


@define(eq=False)
class Keeper:
    """Asks a coordination, or stands for one that there is not."""

    _coordination: Coordination | None
    _why: str = field(default="", init=False)
    """Why it is away; empty while it answers."""
    _asks_again: float = field(default=0.0, init=False)
    """On Trio's clock, while it is away."""

    @property
    def coordination(self) -> Coordination | None:
        """What is asked."""
        return self._coordination

    @property
    def is_away(self) -> bool:
        """Whether the last answer was none."""
        return bool(self._why)

    async def ask(self, act: Callable[[Coordination], Awaitable[T]], *, insists: bool = False) -> T:
        """What it answers. Raises `LinkLost` when it does not, within seconds.

        While it is away, who does not insist is told so at once, but for one now and then.
        If cancelled, it may be done.
        """
        if self._coordination is None:
            raise self._is_away(LinkLost(NONE))
        if self._why and not insists:
            if trio.current_time() < self._asks_again:
                raise LinkLost(self._why)
            self._asks_again = trio.current_time() + ANSWER_PATIENCE + TRY_AGAIN
        try:
            with trio.move_on_after(ANSWER_PATIENCE):
                answer = await act(self._coordination)
                self._is_back()
                return answer
            raise LinkLost(f"{self._coordination.name} gave no answer within {ANSWER_PATIENCE:g} s")
        except LinkLost as lost:
            raise self._is_away(lost) from lost.__cause__

    def _is_away(self, lost: LinkLost) -> LinkLost:
        if not self._why:
            _log.warning(
                "leases and schedules cannot be kept: %s; jobs with an exclusive key wait meanwhile, all others go on",
                lost,
            )
        self._why = str(lost) or type(lost).__name__
        self._asks_again = trio.current_time() + TRY_AGAIN
        return lost

    def _is_back(self) -> None:
        if self._why:
            self._why = ""
            _log.warning("leases and schedules can be kept again; jobs with an exclusive key go on")
