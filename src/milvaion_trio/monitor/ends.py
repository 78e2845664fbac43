"""How scheduled occurrences ended, told to the scheduler: for workers that do not do it themselves.

Separate because the keeper of the schedules may be away while the history is there: then what is to be told waits here.
"""

import logging
from collections.abc import Iterable
from typing import Final

import trio
from attrs import define, field

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.schedule import RunEnd
from milvaion_trio.ports.coordination import Coordination

__all__ = ["Ends"]

PATIENCE: Final = 2.0
"""Seconds for the keeper to take an end, before the history goes on without it."""
PAUSE: Final = 5.0
"""Seconds between two tries."""
ROOM: Final = 100_000
"""Ends that wait for a keeper that is away: 20 MB. A scheduler gives up what has no end after a day."""

_log = logging.getLogger("milvaion_trio.monitor")


@define(eq=False)
class Ends:
    """Tells the book of schedules. The same end twice counts once there, so telling it again does no harm."""

    _coordination: Coordination | None
    _waiting: dict[tuple[str, int], RunEnd] = field(factory=dict, init=False)
    """By schedule and tick."""
    _is_away: bool = field(default=False, init=False)

    async def tell(self, ends: Iterable[RunEnd]) -> None:
        """Tell these; where nobody takes them they are kept for `tell_again`. If cancelled, some may be told."""
        if self._coordination is None:
            return
        new = {(end.schedule_id, end.tick): end for end in ends}
        if new:
            self._waiting |= new
            while len(self._waiting) > ROOM:
                del self._waiting[next(iter(self._waiting))]
            if not self._is_away:
                await self._tell_waiting(self._coordination)

    async def tell_again(self) -> None:
        """Try once more, again and again, what nobody took. Runs until cancelled."""
        while self._coordination is not None:
            await trio.sleep(PAUSE)
            if self._waiting:
                await self._tell_waiting(self._coordination)

    async def _tell_waiting(self, coordination: Coordination) -> None:
        why = ""
        for key, end in list(self._waiting.items()):
            why = await _told(coordination, end)
            if why:
                break
            if self._waiting.get(key) is end:  # a later one may have come meanwhile
                del self._waiting[key]
        if why and not self._is_away:
            _log.warning("ends of scheduled runs cannot be told to %s, tried again: %s", coordination.name, why)
        elif not why and self._is_away:
            _log.info("ends of scheduled runs are told to %s again", coordination.name)
        self._is_away = bool(why)


async def _told(coordination: Coordination, end: RunEnd) -> str:
    """Why it could not be told; "" when it was. If cancelled, it may be told."""
    with trio.move_on_after(PATIENCE):
        try:
            await coordination.book.ended(end)
        except LinkLost as lost:
            return str(lost)
        return ""
    return f"no answer within {PATIENCE:g} s"
