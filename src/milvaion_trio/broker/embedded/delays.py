"""Messages that wait for their time, by Trio's clock.

Separate from the broker because waiting is its only business; on a `MockClock` the times are exact within one run.
"""

import heapq
import math
import time
from collections.abc import Callable, Iterator
from itertools import count

import trio
from attrs import define, field

from milvaion_trio.broker.embedded.vhost import VirtualHost
from milvaion_trio.model import headers
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.topology import HOP_QUEUE
from milvaion_trio.policy.hops import LONGEST_LEG, hop

__all__ = ["Delays"]


@define(eq=False)
class Delays:
    """Holds delayed publications and puts them when they are due, as long as somebody keeps the time.

    A delay longer than two minutes passes the hop queue after each leg, as on RabbitMQ; where there is no hop queue,
    it is waited for in one go.
    """

    _vhost: VirtualHost
    _waiting: list[tuple[float, int, Publication, str]] = field(factory=list, init=False)
    """A heap by due time, each with the queue it is for at last; the number keeps equal times in order."""
    _numbers: Iterator[int] = field(factory=count, init=False)
    _keepers: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _run: trio.lowlevel.TrioToken | None = field(default=None, init=False)
    """Of which run of Trio the due times are."""
    _seen: float = field(default=0.0, init=False)
    """When that run was last seen, by its clock."""
    _seen_here: float = field(default=0.0, init=False)
    """The same moment by `time.monotonic()`, which goes on between two runs."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def next_due(self) -> float | None:
        """When the next one moves, by `trio.current_time()`; `None` when none waits for its time."""
        if not self._waiting:
            return None
        self._now()
        return self._waiting[0][0]

    def count(self, queue: str) -> int:
        """How many of them are on their way to that queue."""
        at_hop = self._vhost.queues[HOP_QUEUE].view().ready if HOP_QUEUE in self._vhost.queues else ()
        return sum(target == queue for *_, target in self._waiting) + sum(
            message.headers.get(headers.DELAY_TARGET) == queue for message in at_hop
        )

    def add(self, publication: Publication) -> None:
        """Take a publication whose delay starts now."""
        first, delay = self.first_leg(publication)
        self.wait(self._now() + delay, next(self._numbers), first)

    def first_leg(self, publication: Publication) -> tuple[Publication, float]:
        """What is put at last of a publication with a delay, and after how many seconds."""
        delay = publication.delay
        if HOP_QUEUE in self._vhost.queues and delay > LONGEST_LEG:
            # The leg with the fraction comes first, because what is left travels as whole seconds.
            left = LONGEST_LEG * (math.ceil(delay / LONGEST_LEG) - 1)
            return hop(publication.message, publication.routing_key, left), delay - left
        return Publication(publication.message, publication.routing_key), delay

    def wait(self, due: float, number: int, publication: Publication) -> None:
        """Hold it until that time, by `trio.current_time()`; the number tells those of one time apart."""
        target = publication.routing_key
        if target == HOP_QUEUE:
            target = headers.text(publication.message.headers.get(headers.DELAY_TARGET)) or target
        self._now()
        heapq.heappush(self._waiting, (due, number, publication, target))
        if self._waiting[0][1] == number:
            self.look_again()

    def move_due(self) -> None:
        """Put everything that is due."""
        now = self._now()
        while self._waiting and self._waiting[0][0] <= now:
            _, number, publication, _ = heapq.heappop(self._waiting)
            self._put(number, publication)

    def _now(self) -> float:
        """Trio's time. Each run of it has a clock of its own, so what waits since an earlier one is counted anew."""
        run, now, here = trio.lowlevel.current_trio_token(), trio.current_time(), time.monotonic()
        if run is not self._run:
            shift = now - (self._seen + here - self._seen_here)
            # All alike, so it stays a heap.
            self._waiting = [(due + shift, number, waiting, to) for due, number, waiting, to in self._waiting]
            self._run = run
        self._seen, self._seen_here = now, here
        return now

    def _put(self, number: int, publication: Publication) -> None:
        self._vhost.put(publication)

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
