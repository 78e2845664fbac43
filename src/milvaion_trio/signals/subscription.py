"""What one listener has not heard yet: where every source of cancel signals puts them."""

from collections import deque

import trio
from attrs import define, field

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.messages import Cancellation

__all__ = ["Subscription"]


@define(eq=False)
class Subscription:
    """Signals in order, and after them `LinkLost`.

    Unbounded: a bound could only drop signals, and people send few of them.
    """

    _unheard: deque[Cancellation] = field(factory=deque, init=False)
    _listeners: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _end: tuple[str, float] | None = field(default=None, init=False)

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Cancellation:
        if self._unheard:
            await trio.lowlevel.checkpoint()
        while not self._unheard:
            if self._end is not None:
                raise LinkLost(*self._end)
            await self._listeners.park()
        return self._unheard.popleft()

    def put(self, cancellation: Cancellation) -> None:
        """Hand a signal to the listener, unless this has ended."""
        if self._end is None:
            self._unheard.append(cancellation)
            self._listeners.unpark()

    def end(self, why: str, silent_for: float = 0.0) -> None:
        """From now on nothing is heard; the first reason stays. `silent_for` as in `LinkLost`."""
        if self._end is None:
            self._end = (why, silent_for)
            self._listeners.unpark_all()
