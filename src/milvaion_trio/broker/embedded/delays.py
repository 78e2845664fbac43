"""Messages that wait for their time, by Trio's clock.

Separate from the broker because waiting is its only business; on a `MockClock` the times are exact.
"""

import heapq
import math
from collections.abc import Callable, Iterator
from itertools import count

import trio
from attrs import define, field

from milvaion_trio.broker.embedded.vhost import VirtualHost
from milvaion_trio.model.envelope import Publication

__all__ = ["Delays"]


@define(eq=False)
class Delays:
    """Holds delayed publications and puts them when they are due, as long as somebody keeps the time."""

    _vhost: VirtualHost
    _waiting: list[tuple[float, int, Publication]] = field(factory=list, init=False)
    """A heap by due time; the number keeps those with equal times in the order they came."""
    _stranded: list[Publication] = field(factory=list, init=False)
    """Due, but no queue takes them: they stay, as RabbitMQ's at-least-once dead-lettering does (RELIABILITY 3.2)."""
    _numbers: Iterator[int] = field(factory=count, init=False)
    _keepers: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._stranded)

    @property
    def next_due(self) -> float | None:
        """When the next one moves, by `trio.current_time()`; `None` when none waits for its time."""
        return self._waiting[0][0] if self._waiting else None

    def count(self, queue: str) -> int:
        """How many of them are on their way to that queue."""
        return sum(self._vhost.takes(queue, publication) for _, _, publication in self._waiting)

    def add(self, publication: Publication) -> None:
        """Take a publication whose delay starts now."""
        number = next(self._numbers)
        heapq.heappush(self._waiting, (trio.current_time() + publication.delay, number, publication))
        if self._waiting[0][1] == number:
            self.look_again()

    def move_due(self) -> None:
        """Put everything that is due."""
        now = trio.current_time()
        while self._waiting and self._waiting[0][0] <= now:
            publication = heapq.heappop(self._waiting)[2]
            if not self._vhost.put(publication):
                self._stranded.append(publication)

    def move_stranded(self) -> None:
        """Try those again that no queue took: there may be a new one."""
        self._stranded = [publication for publication in self._stranded if not self._vhost.put(publication)]

    def look_again(self) -> None:
        """Wake those who keep the time: the next due time or the reason to keep it has changed."""
        self._keepers.unpark_all()

    async def keep_time(self, is_over: Callable[[], bool]) -> None:
        """Move what is due, when it is due, until it is over. If cancelled, nothing is lost."""
        while not is_over():
            self.move_due()
            next_due = self.next_due
            with trio.move_on_at(math.inf if next_due is None else next_due):
                await self._keepers.park()
