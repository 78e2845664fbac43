"""A consuming connection: a channel for each consumer, and acks that need no waiting.

A channel each, because prefetch and errors are the channel's, and an ack must name the channel it came by.
"""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count

import trio
from attrs import define, field
from pamqp import commands

from milvaion_trio.broker.amqp.events import CancelledEvent, ChannelClosedEvent, DeliveredEvent, Event, OversizedEvent
from milvaion_trio.broker.amqp.protocol import MAX_BODY
from milvaion_trio.broker.ladder import LADDER
from milvaion_trio.broker.link import Link, Refused
from milvaion_trio.broker.rabbitmq.declaring import declare, states
from milvaion_trio.broker.rabbitmq.deliveries import RabbitMQDeliveries
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.ports import QueueState, Topology

__all__ = ["RabbitMQConsumer"]

_logger = logging.getLogger("milvaion_trio.broker")

MOST_PREFETCH = 65_535
"""What the wire can say."""
STOP_TIMEOUT = 3.0
"""Seconds for the broker to end a consumer; a link on which that takes longer is of no use any more."""


@define(eq=False, repr=False)
class RabbitMQConsumer:
    """Implements `ports.Consumer`."""

    link: Link = field(init=False)
    """Set once it is open; what comes before is heard all the same."""
    _consumptions: dict[int, RabbitMQDeliveries] = field(factory=dict, init=False)
    """By channel; stopped ones stay until their deliveries are settled."""
    _starting: dict[int, str | None] = field(factory=dict, init=False)
    """Channels whose end is no more than the refusal of their consumer, and why they ended; others' is the link's."""
    _stopped: set[int] = field(factory=set, init=False)
    _numbers: Iterator[int] = field(factory=count, init=False)
    _has_ladder: bool = field(default=False, init=False)

    async def lost(self) -> str:
        """Return when the connection is gone, and why. If cancelled, nothing changes."""
        return await self.link.loss.wait()

    async def declare(self, topology: Topology) -> None:
        """Make the topology exist, and the delay queues with it. If cancelled, any part may have been declared."""
        await trio.lowlevel.checkpoint()
        await declare(self.link, topology)
        if not self._has_ladder:
            await declare(self.link, LADDER)
            self._has_ladder = True

    @asynccontextmanager
    async def consume(self, queue: str, *, prefetch: int) -> AsyncIterator[RabbitMQDeliveries]:
        """Consume a queue; one that does not exist raises `SettingsError`. If cancelled, nothing is consumed.

        Leaving waits for the broker to end the consumer, at most `STOP_TIMEOUT` and whether cancelled or not.
        """
        if prefetch < 1:
            raise ValueError(f"prefetch is {prefetch!r}; it must be 1 or more.")
        await trio.lowlevel.checkpoint()
        self._close_settled()
        tag = f"{self.link.endpoint.client_name}.{next(self._numbers)}"[-200:]
        try:
            deliveries = await self._start(queue, tag, min(prefetch, MOST_PREFETCH))
        except Refused as refused:
            raise SettingsError([_problem(queue, refused)]) from refused
        try:
            yield deliveries
        finally:
            deliveries.stop()
            await self._stop(deliveries, tag)  # noqa: ASYNC102  # shielded and bounded in there

    async def state(self, queue: str) -> QueueState | None:
        """The queue as it is now, `None` when there is none of this name. If cancelled, nothing changes."""
        await trio.lowlevel.checkpoint()
        return next(iter(await states(self.link, [queue])), None)

    async def depth(self, queue: str, *, may_wait: bool) -> int:
        """How many messages are ready in the queue, and on the delay queues, for whichever queue, if some may wait.

        RabbitMQ does not say where those are bound for, and looking into them would count as deliveries, of which a
        quorum queue allows 20. If cancelled, nothing changes.
        """
        await trio.lowlevel.checkpoint()
        found = await states(self.link, [queue, *(rung.name for rung in LADDER.queues if may_wait)])
        if not found:
            raise SettingsError([f"Queue {queue!r} does not exist; declare it before asking for its depth."])
        return sum(state.ready for state in found)

    # --- consuming --------------------------------------------------------------------------------------------------

    async def _start(self, queue: str, tag: str, prefetch: int) -> RabbitMQDeliveries:
        """If cancelled, the channel is closed, and what came meanwhile goes back."""
        channel = await self.link.open_channel()
        # Known before the broker is asked: the first messages come along with its answer.
        self._consumptions[channel] = deliveries = RabbitMQDeliveries(queue, channel, self.link.write_later)
        self._starting[channel] = None
        try:
            await self.link.ask(channel, commands.Basic.Qos(prefetch_count=prefetch))
            await self.link.ask(channel, _Consume(queue=queue, consumer_tag=tag))
        except BaseException:
            del self._consumptions[channel]
            self.link.end_channel(channel)
            raise
        finally:
            ended = self._starting.pop(channel)
        if ended is not None:  # right behind the broker's yes
            self.link.loss.declare(f"RabbitMQ closed the channel that consumes {queue!r}: {ended}")
        return deliveries

    async def _stop(self, deliveries: RabbitMQDeliveries, tag: str) -> None:
        """End the consumer and give back what nobody received. Not cancelled."""
        if self.link.loss.is_final:
            return
        with trio.move_on_after(STOP_TIMEOUT, shield=True) as limit:
            with suppress(LinkLost, Refused):  # refused, where the broker closed the channel at this moment
                await self.link.ask(deliveries.channel, commands.Basic.Cancel(consumer_tag=tag))
                deliveries.give_back()
                self._stopped.add(deliveries.channel)
                self._close_settled()
        if limit.cancelled_caught:
            self.link.loss.declare(f"RabbitMQ did not end a consumer within {STOP_TIMEOUT:g} s")

    def _close_settled(self) -> None:
        """Close the channels of stopped consumers that nobody needs any more."""
        for channel in [one for one in self._stopped if not self._consumptions[one].unsettled]:
            self._stopped.discard(channel)
            del self._consumptions[channel]
            self.link.end_channel(channel)

    # --- what comes -------------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """What the broker says to a consumer."""
        match event:
            case DeliveredEvent(channel=channel):
                if (deliveries := self._consumptions.get(channel)) is not None:
                    deliveries.take(event)
            case CancelledEvent(channel=channel) if channel in self._consumptions:
                # Also one that comes right behind the broker's yes, when nobody has heard that yet.
                queue = self._consumptions[channel].queue
                self.link.loss.declare(f"RabbitMQ ended the consumer of {queue!r}: was the queue deleted?")
            case ChannelClosedEvent(channel=channel, why=why) if channel in self._starting:
                self._starting[channel] = why
            case ChannelClosedEvent(channel=channel, why=why) if channel in self._consumptions:
                queue = self._consumptions[channel].queue
                self.link.loss.declare(f"RabbitMQ closed the channel that consumes {queue!r}: {why}")
            case OversizedEvent(channel=channel, delivery_tag=tag, size=size) if channel in self._consumptions:
                self._consumptions[channel].leave_out(tag)
                _logger.error(
                    "a message of %d bytes in queue %r is larger than any that is taken here (%d); it waits unacked, "
                    "and goes back when this worker leaves: remove it, and publish less",
                    size,
                    self._consumptions[channel].queue,
                    MAX_BODY,
                )

    def after_loss(self, why: str) -> None:
        """Tell those who wait for deliveries."""
        for deliveries in self._consumptions.values():
            deliveries.lose(why)


def _problem(queue: str, refused: Refused) -> str:
    if refused.is_missing:
        return f"Queue {queue!r} does not exist; declare it before consuming it."
    if refused.is_forbidden:
        return (
            f"Queue {queue!r} may not be consumed: {refused}. "
            "Give the user of Worker:RabbitMQ:Username read permission for it (rabbitmqctl set_permissions)."
        )
    return f"Queue {queue!r} cannot be consumed: {refused}."


class _Consume(commands.Basic.Consume):
    def validate(self) -> None:
        """Any queue name will do: pamqp allows some letters only."""
