"""An embedded broker whose consumers fall silent: it knows them, has messages for them, and hands none over."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import define, evolve, field

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.broker.embedded.links import EmbeddedConsumer
from milvaion_trio.broker.embedded.queues import EmbeddedDeliveries
from milvaion_trio.ports import QueueState

__all__ = ["SilentBroker"]


@define(eq=False)
class SilentBroker(EmbeddedBroker):
    """Silent on demand; a new connection is a new chance, unless it stays so."""

    stays_silent: bool = field(default=False, init=False)
    """New consumers get nothing either."""
    knows_its_consumers: bool = field(default=True, init=False)
    """Whether those who get nothing are counted all the same."""
    says_nothing_about: set[str] = field(factory=set, init=False)
    """Queues about which no question is answered."""
    asked: list[str] = field(factory=list, init=False)
    """The queues that somebody asked about."""
    _silenced: dict[str, list[EmbeddedDeliveries]] = field(factory=dict, init=False)

    def silence(self, queue: str) -> None:
        """Hand nothing more to those who consume the queue now."""
        home = self._vhost.queue(queue)
        for consumer in tuple(home._consumers):
            home.remove(consumer)
            self.note_silent(queue, consumer)

    def note_silent(self, queue: str, consumer: EmbeddedDeliveries) -> None:
        """Count it although it gets nothing."""
        self._silenced.setdefault(queue, []).append(consumer)

    def trickle(self, queue: str) -> None:
        """Hand one message to a silenced consumer."""
        self._silenced[queue][-1].take(self._vhost.queue(queue)._next())

    def forget(self, queue: str) -> None:
        """Lose the queue without a word to anybody."""
        del self._vhost.queues[queue]

    def phantoms(self, queue: str) -> int:
        """How many consumers of the queue are counted and get nothing."""
        return sum(one.is_in_use for one in self._silenced.get(queue, ())) if self.knows_its_consumers else 0

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[EmbeddedConsumer]:
        async with self._open(_Consumer("consuming", self.declare_nowait, self._vhost, self._delays, self)) as link:
            yield link


@define(eq=False)
class _Consumer(EmbeddedConsumer):
    _broker: SilentBroker

    @asynccontextmanager
    async def consume(self, queue: str, *, prefetch: int) -> AsyncIterator[EmbeddedDeliveries]:
        if not self._broker.stays_silent:
            async with EmbeddedConsumer.consume(self, queue, prefetch=prefetch) as deliveries:
                yield deliveries
            return
        await trio.lowlevel.checkpoint()
        mute = EmbeddedDeliveries(self._vhost.queue(queue), prefetch)
        self._consumers.append(mute)
        self._broker.note_silent(queue, mute)
        try:
            yield mute
        finally:
            mute.home.take_back(mute.stop())

    async def state(self, queue: str) -> QueueState | None:
        self._broker.asked.append(queue)
        if queue in self._broker.says_nothing_about:
            await trio.sleep_forever()
        state = await EmbeddedConsumer.state(self, queue)
        return state and evolve(state, consumers=state.consumers + self._broker.phantoms(queue))
