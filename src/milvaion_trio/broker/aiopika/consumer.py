"""A consuming connection: a channel for each consumer, and acks that need no waiting.

A channel each, because prefetch and errors are the channel's, and an ack must name the channel it came by.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count

import aiormq
import trio
from aiormq import spec
from attrs import define, field

from milvaion_trio.broker.aiopika.declaring import declare, states
from milvaion_trio.broker.aiopika.deliveries import AioPikaDeliveries
from milvaion_trio.broker.aiopika.frames import CancelledEvent, DeliveredEvent, Event
from milvaion_trio.broker.aiopika.link import AioPikaLink, Refused
from milvaion_trio.broker.ladder import LADDER
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.ports import QueueState, Topology

__all__ = ["AioPikaConsumer"]

MOST_PREFETCH = 65_535
"""What the wire can say."""
STOP_TIMEOUT = 3.0
"""Seconds for the broker to end a consumer; a link on which that takes longer is of no use any more."""


@define(eq=False, repr=False)
class _Consumption:
    """A consumer and the channel it has, which stays as long as it has unsettled deliveries."""

    deliveries: AioPikaDeliveries
    channel: aiormq.Channel
    tag: str


@define(eq=False, repr=False)
class AioPikaConsumer(AioPikaLink):
    """Implements `ports.Consumer`."""

    _consumptions: dict[int, _Consumption] = field(factory=dict, init=False)
    """By channel; stopped ones stay until their deliveries are settled."""
    _stopped: set[int] = field(factory=set, init=False)
    _numbers: Iterator[int] = field(factory=count, init=False)
    _has_ladder: bool = field(default=False, init=False)

    async def declare(self, topology: Topology) -> None:
        """Make the topology exist, and the delay queues with it. If cancelled, any part may have been declared."""
        await trio.lowlevel.checkpoint()
        await declare(self, topology)
        if not self._has_ladder:
            await declare(self, LADDER)
            self._has_ladder = True

    @asynccontextmanager
    async def consume(self, queue: str, *, prefetch: int) -> AsyncIterator[AioPikaDeliveries]:
        """Consume a queue; one that does not exist raises `SettingsError`. If cancelled, nothing is consumed.

        Leaving waits for the broker to end the consumer, at most `STOP_TIMEOUT` and whether cancelled or not.
        """
        if prefetch < 1:
            raise ValueError(f"prefetch is {prefetch!r}; it must be 1 or more.")
        await trio.lowlevel.checkpoint()
        await self._close_settled()
        try:
            consumption = await self.ask(self._start, queue, min(prefetch, MOST_PREFETCH))
        except Refused as refused:
            raise SettingsError([_problem(queue, refused)]) from refused
        try:
            yield consumption.deliveries
        finally:
            consumption.deliveries.stop()
            await self._stop(consumption)  # noqa: ASYNC102  # shielded and bounded in there

    async def state(self, queue: str) -> QueueState | None:
        """The queue as it is now, `None` when there is none of this name. If cancelled, nothing changes."""
        await trio.lowlevel.checkpoint()
        return next(iter(await states(self, [queue])), None)

    async def depth(self, queue: str) -> int:
        """How many messages are ready in the queue, and how many wait on the delay queues, for whichever queue.

        An upper bound: a broker does not say where waiting messages are bound for. If cancelled, nothing changes.
        """
        await trio.lowlevel.checkpoint()
        found = await states(self, [queue, *(rung.name for rung in LADDER.queues)])
        if not found:
            raise SettingsError([f"Queue {queue!r} does not exist; declare it before asking for its depth."])
        return sum(state.ready for state in found)

    # --- consuming --------------------------------------------------------------------------------------------------

    async def _start(self, queue: str, prefetch: int) -> _Consumption:
        """In asyncio. If cancelled, aiormq closes the channel, and what came meanwhile goes back."""
        channel = await self.open_channel()
        number = channel.number
        tag = f"{self._endpoint.client_name}.{next(self._numbers)}"[-200:]
        deliveries = AioPikaDeliveries(queue, number, self.write)
        # Known before the broker is asked: the first messages come along with its answer.
        self._consumptions[number] = consumption = _Consumption(deliveries, channel, tag)
        try:
            await channel.basic_qos(prefetch_count=prefetch)
            await channel.rpc(_Consume(queue=queue, consumer_tag=tag))
        except BaseException:
            self._consumptions.pop(number, None)
            raise
        self._in_use[number] = f"that consumes {queue!r}"
        return consumption

    async def _stop(self, consumption: _Consumption) -> None:
        """End the consumer and give back what nobody received. Not cancelled."""
        if self.is_gone:
            return
        with trio.move_on_after(STOP_TIMEOUT, shield=True) as limit:
            with suppress(LinkLost):
                await self.ask(consumption.channel.basic_cancel, consumption.tag)
                consumption.deliveries.give_back()
                self._stopped.add(consumption.deliveries.channel)
                await self._close_settled()
        if limit.cancelled_caught:
            self.lose(f"RabbitMQ did not end a consumer within {STOP_TIMEOUT:g} s")

    async def _close_settled(self) -> None:
        """Close the channels of stopped consumers that nobody needs any more. If cancelled, some stay open."""
        while (number := self._settled_number()) is not None:
            # Taken out before waiting: another consumer may start or stop meanwhile and look as well.
            self._stopped.discard(number)
            del self._in_use[number]
            with suppress(Refused):  # closed, by whomever
                await self.ask(self.close_channel, self._consumptions.pop(number).channel)

    def _settled_number(self) -> int | None:
        return next(
            (number for number in self._stopped if not self._consumptions[number].deliveries.unsettled),
            None,
        )

    # --- the link ---------------------------------------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        if isinstance(event, DeliveredEvent):
            if (consumption := self._consumptions.get(event.channel)) is not None:
                consumption.deliveries.take(event)
        elif isinstance(event, CancelledEvent) and event.channel in self._consumptions:
            # Also one that comes right behind the broker's yes, when nobody has heard that yet.
            queue = self._consumptions[event.channel].deliveries.queue
            self.lose(f"RabbitMQ ended the consumer of {queue!r}: was the queue deleted?")
        else:
            super()._hear(event)

    def _after_loss(self, why: str) -> None:
        for consumption in self._consumptions.values():
            consumption.deliveries.lose(why)


def _problem(queue: str, refused: Refused) -> str:
    if refused.is_missing:
        return f"Queue {queue!r} does not exist; declare it before consuming it."
    if refused.is_forbidden:
        return (
            f"Queue {queue!r} may not be consumed: {refused}. "
            "Give the user of Worker:RabbitMQ:Username read permission for it (rabbitmqctl set_permissions)."
        )
    return f"Queue {queue!r} cannot be consumed: {refused}."


class _Consume(spec.Basic.Consume):
    def validate(self) -> None:
        """Any queue name will do: pamqp allows some letters only."""
