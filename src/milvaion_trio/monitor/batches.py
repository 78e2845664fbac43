"""Deliveries of all queues, collected until it is worth writing them together.

A transaction costs as much for one message as for hundreds. Separate from who writes them: this only waits and counts.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import trio
from attrs import define, field

from milvaion_trio.ports import Deliveries, Delivery

__all__ = ["PREFETCH", "Collector"]

PREFETCH: Final = 1000
"""Of each queue, so this bounds what waits here while the store is away: 1 MB of statuses as they mostly are."""
SHARE: Final = PREFETCH // 2
"""Deliveries of one queue in a batch: while they are written the broker sends the other half."""


@define(eq=False)
class Collector:
    """What came over one connection and is not handed out yet, in order for each queue."""

    order: Sequence[str]
    """Names of the queues, in the order in which a batch has them."""
    interval: float
    """Seconds for which a batch waits for more, unless it is full."""
    _waiting: dict[str, list[Delivery]] = field(factory=dict, init=False)
    _came: trio.Event = field(factory=trio.Event, init=False)
    _since: float = field(default=math.inf, init=False)
    """When the oldest that waits came."""

    async def receive(self, deliveries: Deliveries) -> None:
        """Collect what comes; raises `LinkLost`. If cancelled, what came is here or with the consumer."""
        while True:
            delivery: Delivery | None = await deliveries.receive()
            while delivery is not None:
                self._waiting.setdefault(delivery.queue, []).append(delivery)
                delivery = deliveries.receive_nowait()
            self._since = min(self._since, trio.current_time())
            self._came.set()

    async def batch(self) -> list[Delivery]:
        """The next ones, oldest first of each queue: at least one. If cancelled, none was taken."""
        while not self._waiting:
            await self._next()
        with trio.move_on_at(self._since + self.interval):
            while not self._is_full:
                await self._next()
        await trio.lowlevel.checkpoint()
        taken = list(self._taken(SHARE))
        self._since = trio.current_time() if self._waiting else math.inf
        return taken

    def rest(self) -> list[Delivery]:
        """All that is left."""
        return list(self._taken(PREFETCH))

    @property
    def _is_full(self) -> bool:
        return any(len(waiting) >= SHARE for waiting in self._waiting.values())

    async def _next(self) -> None:
        self._came = trio.Event()
        await self._came.wait()

    def _taken(self, most: int) -> Iterator[Delivery]:
        for queue in self.order:
            waiting = self._waiting.pop(queue, [])
            yield from islice(waiting, most)
            if left := waiting[most:]:
                self._waiting[queue] = left
