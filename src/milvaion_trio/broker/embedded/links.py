"""The two kinds of connections to the embedded broker, and how they are lost.

Separate from the broker, which outlives them.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Literal, TypeAlias

import trio
from attrs import define, field

from milvaion_trio.broker.embedded.delays import Delays
from milvaion_trio.broker.embedded.queues import EmbeddedDeliveries, EmbeddedDelivery, EmbeddedQueue
from milvaion_trio.broker.embedded.vhost import VirtualHost
from milvaion_trio.model.alarm import Alarm
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.ports import Confirmation, QueueState, Topology

__all__ = ["EmbeddedConsumer", "EmbeddedLink", "EmbeddedPublisher", "Gate", "LinkKind"]

LinkKind: TypeAlias = Literal["publishing", "consuming"]


@define(eq=False)
class EmbeddedLink:
    """One connection; `lose` ends it, whoever does it."""

    kind: LinkKind
    _gone: trio.Event = field(factory=trio.Event, init=False)
    _why: str = field(default="", init=False)

    @property
    def is_gone(self) -> bool:
        """Whether nothing goes through it any more."""
        return self._gone.is_set()

    async def lost(self) -> str:
        """Return when the connection is gone, and why. If cancelled, nothing changes."""
        await self._gone.wait()
        return self._why

    def lose(self, why: str) -> None:
        """End it; only the first reason counts."""
        if not self.is_gone:
            self._why = why
            self._gone.set()

    def check(self) -> None:
        """Raise `LinkLost` when it is gone."""
        if self.is_gone:
            raise LinkLost(self._why)


@define(eq=False)
class Gate:
    """What every publish passes, or every confirm; tests close it to see what waits there."""

    _holds: int = field(default=0, init=False)
    _waiting: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """While inside, nothing passes."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            self.look_again()

    def look_again(self) -> None:
        """Wake those who wait: the gate is open or their link is gone."""
        self._waiting.unpark_all()

    async def passed(self, link: EmbeddedLink) -> None:
        """Return when the gate is open; raise `LinkLost` when the link is gone. If cancelled, nothing changes."""
        while self._holds:
            link.check()
            await self._waiting.park()
        link.check()


@define(eq=False)
class EmbeddedPublisher(EmbeddedLink):
    """Implements `ports.Publisher`."""

    _publish: Callable[[Publication], Confirmation]
    _reading: Gate
    _confirms: Gate
    alarm: Alarm = field(factory=Alarm)
    """Why nothing that is published is read."""

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Confirmation]:
        """Publish all in one go, then wait for the confirms. If cancelled, all of it has arrived or nothing."""
        await trio.lowlevel.checkpoint()
        self.check()
        await self._reading.passed(self)
        answers = [self._publish(publication) for publication in publications]
        await self._confirms.passed(self)
        return answers

    def on_blocked(self, tell: Callable[[str], None]) -> None:
        """Tell when the broker is blocked on demand, by `EmbeddedBroker.blocking`."""
        self.alarm.listen(tell)


@define(eq=False)
class EmbeddedConsumer(EmbeddedLink):
    """Implements `ports.Consumer`."""

    _declare: Callable[[Topology], None]
    _vhost: VirtualHost
    _delays: Delays
    _consumers: list[EmbeddedDeliveries] = field(factory=list, init=False)
    """Stopped ones stay while received deliveries are not settled."""

    async def declare(self, topology: Topology) -> None:
        """Make the topology exist. If cancelled, nothing was declared."""
        await trio.lowlevel.checkpoint()
        self.check()
        self._declare(topology)

    @asynccontextmanager
    async def consume(self, queue: str, *, prefetch: int) -> AsyncIterator[EmbeddedDeliveries]:
        """Consume a queue; one that does not exist raises `SettingsError`. If cancelled, nothing is consumed."""
        await trio.lowlevel.checkpoint()
        self.check()
        deliveries = EmbeddedDeliveries(self._consumable(queue), _checked(prefetch))
        self._consumers = [consumer for consumer in self._consumers if consumer.is_in_use]
        self._consumers.append(deliveries)
        deliveries.start()
        try:
            yield deliveries
        finally:
            deliveries.home.take_back(deliveries.stop())

    async def state(self, queue: str) -> QueueState | None:
        """The queue as it is now, `None` when there is none of this name. If cancelled, nothing changes."""
        await trio.lowlevel.checkpoint()
        self.check()
        if queue not in self._vhost.queues:
            return None
        view = self._vhost.queues[queue].view()
        return QueueState(len(view.ready), view.consumers)

    async def depth(self, queue: str, *, may_wait: bool) -> int:
        """How many messages are ready or delayed on their way to the queue, known here without being told.

        If cancelled, nothing changes.
        """
        await trio.lowlevel.checkpoint()
        self.check()
        return self._consumable(queue).ready + self._delays.count(queue)

    def lose(self, why: str) -> None:
        """End it; every unsettled delivery, received or not, goes back to its queue."""
        super().lose(why)
        # All consumers end before anything goes back: a queue must neither give it to one of them again, nor to
        # another connection out of order.
        returned: dict[EmbeddedQueue, list[EmbeddedDelivery]] = {}
        for consumer in self._consumers:
            returned.setdefault(consumer.home, []).extend(consumer.lose(why))
        self._consumers.clear()
        for queue, deliveries in returned.items():
            queue.take_back(deliveries)

    def _consumable(self, queue: str) -> EmbeddedQueue:
        if queue not in self._vhost.queues:
            raise SettingsError([f"Queue {queue!r} does not exist; declare it before consuming it."])
        return self._vhost.queues[queue]


def _checked(prefetch: int) -> int:
    if prefetch < 1:
        raise ValueError(f"prefetch is {prefetch!r}; it must be 1 or more.")
    return prefetch
