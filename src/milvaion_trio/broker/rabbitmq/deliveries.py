"""The deliveries of one consumer: what came and was not received, what was received and not settled.

Separate from the consumer because all of it is decided synchronously, and because received deliveries outlive the
consumer they came by.
"""

from collections import deque
from collections.abc import Callable
from functools import partial

import trio
from attrs import define, field

from milvaion_trio.broker.amqp.events import DeliveredEvent
from milvaion_trio.broker.rabbitmq.settling import Answer, Settlements
from milvaion_trio.model.envelope import Message
from milvaion_trio.model.errors import DeliverySettled, LinkLost

__all__ = ["RabbitMQDeliveries", "RabbitMQDelivery"]


@define(eq=False)
class RabbitMQDelivery:
    """Implements `ports.Delivery`. The answer is on its way when a method returns; it may still be lost with the link.

    Then the message comes again: acks are hopes, which is why nothing depends on them (LIBRARIES.md 2.4).
    """

    message: Message
    redelivered: bool
    routing_key: str
    """As it was published: on a delay queue, the queue it goes to next."""
    _tag: int
    _home: "RabbitMQDeliveries" = field(repr=False)
    _is_settled: bool = field(default=False, init=False)

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self._home.queue

    def ack(self) -> None:
        """Done: the broker forgets the message."""
        self._settle(Answer.ACK)

    def requeue(self) -> None:
        """Not done: it goes back to its place in the queue."""
        self._settle(Answer.REQUEUE)

    def reject(self) -> None:
        """Never: it goes to the dead-letter exchange, or is dropped where there is none."""
        self._settle(Answer.REJECT)

    def _settle(self, answer: Answer) -> None:
        if self._is_settled:
            raise DeliverySettled(
                f"A delivery of queue {self.queue!r} (message id {self.message.message_id!r}) was settled twice. "
                "Whoever received it settles it, once: ack, requeue or reject."
            )
        self._is_settled = True
        self._home.settle(self._tag, answer)


@define(eq=False)
class RabbitMQDeliveries:
    """Implements `ports.Deliveries`: one consumer, on a channel of its own."""

    queue: str
    channel: int
    _write_later: Callable[[Callable[[], bytes]], None] = field(repr=False)
    unsettled: int = field(default=0, init=False)
    """Received or not."""
    _unreceived: deque[RabbitMQDelivery] = field(factory=deque, init=False)
    _receivers: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _end: Callable[[], Exception] | None = field(default=None, init=False)
    _settlements: Settlements = field(init=False, repr=False)

    @_settlements.default
    def _of_the_channel(self) -> Settlements:
        return Settlements(self.channel)

    async def receive(self) -> RabbitMQDelivery:
        """The next delivery. If cancelled, it is still here for the next call."""
        if self._unreceived:
            await trio.lowlevel.checkpoint()
        # Taking one is the last step and waits for nothing, so a cancelled call has taken none. The loop, because
        # another receiver may have been quicker, or the link may have been lost meanwhile.
        while self._end is not None or not self._unreceived:
            if self._end is not None:
                raise self._end()
            await self._receivers.park()
        return self._unreceived.popleft()

    def receive_nowait(self) -> RabbitMQDelivery | None:
        """The next delivery if it is here already."""
        return self._unreceived.popleft() if self._unreceived and self._end is None else None

    def take(self, event: DeliveredEvent) -> None:
        """A message came. The prefetch bounds how many there can be."""
        self.unsettled += 1
        self._settlements.came(event.delivery_tag)
        self._unreceived.append(
            RabbitMQDelivery(event.message, event.redelivered, event.routing_key, event.delivery_tag, self)
        )
        if self._receivers:
            self._receivers.unpark()

    def leave_out(self, tag: int) -> None:
        """A message came that nobody gets to see, and nobody answers for."""
        self._settlements.came(tag)

    def settle(self, tag: int, answer: Answer) -> None:
        """Answer for one of them, together with all others that are settled before the link writes."""
        self.unsettled -= 1
        if self._settlements.answer(tag, answer):
            self._write_later(self._settlements.frames)

    def stop(self) -> None:
        """Let nobody receive any more."""
        self._finish(partial(trio.ClosedResourceError, "this consumer was stopped"))

    def give_back(self) -> None:
        """Return what nobody received, once the broker sends no more. Received deliveries stay valid."""
        while self._unreceived:
            self._unreceived.popleft().requeue()

    def lose(self, why: str) -> None:
        """The link is gone, and with it all that was not settled: the broker has it back."""
        self._unreceived.clear()
        self._finish(partial(LinkLost, why))

    def _finish(self, end: Callable[[], Exception]) -> None:
        self._end = self._end or end
        self._receivers.unpark_all()
