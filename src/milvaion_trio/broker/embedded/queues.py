"""One queue of the embedded broker: what is ready, who consumes it, what is not settled yet.

Separate from the broker because a queue decides alone, and synchronously, who gets which message;
it knows neither connections nor time nor routing.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import itemgetter

import trio
from attrs import define, field, frozen

from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import DeliverySettled, LinkLost

__all__ = ["EmbeddedDeliveries", "EmbeddedDelivery", "EmbeddedQueue", "QueueView"]


@frozen(kw_only=True)
class QueueView:
    """A queue as it was when asked."""

    name: str
    ready: tuple[Message, ...]
    """What waits to be delivered, next first."""
    unacked: int
    """How many messages are with consumers, not settled."""
    consumers: int

    @property
    def depth(self) -> int:
        """All messages of the queue, ready or unsettled."""
        return len(self.ready) + self.unacked


@define(eq=False)
class EmbeddedDelivery:
    """Implements `ports.Delivery`. A message that is delivered again gets a new one."""

    publication: Publication
    """How the message was published: dead-lettering keeps the routing key and records the exchange."""
    message: Message
    queue: str
    redelivered: bool
    position: int
    """Its place in the queue, kept when it returns."""
    _holder: "EmbeddedDeliveries | None" = None
    _is_settled: bool = False

    def ack(self) -> None:
        """Done: the queue forgets the message."""
        if (holder := self._settle()) is not None:
            holder.home.feed()

    def requeue(self) -> None:
        """Not done: it goes back to its place, ahead of all that came later."""
        if (holder := self._settle()) is not None:
            holder.home.take_back((self,))

    def reject(self) -> None:
        """Never: it goes to the dead-letter exchange, or is dropped where there is none."""
        if (holder := self._settle()) is not None:
            holder.home.bury(self)
            holder.home.feed()

    def again(self) -> "EmbeddedDelivery":
        """The same message in the same place, for who gets it next."""
        return EmbeddedDelivery(self.publication, self.message, self.queue, True, self.position)

    def hand_to(self, holder: "EmbeddedDeliveries") -> None:
        """Say which consumer has it now."""
        self._holder = holder

    def _settle(self) -> "EmbeddedDeliveries | None":
        """The consumer it is taken from, or `None` when its link is gone: then the answer has no effect."""
        if self._is_settled:
            raise DeliverySettled(
                f"A delivery of queue {self.queue!r} (message id {self.message.message_id!r}) was settled twice. "
                "Whoever received it settles it, once: ack, requeue or reject."
            )
        self._is_settled = True
        holder = self._holder
        return holder if holder is not None and holder.release(self) else None


@define(eq=False)
class EmbeddedDeliveries:
    """Implements `ports.Deliveries`: one consumer of one queue, with what was handed to it."""

    home: "EmbeddedQueue"
    _prefetch: int
    _unsettled: dict[int, EmbeddedDelivery] = field(factory=dict, init=False)
    """By position; received or not."""
    _unreceived: deque[EmbeddedDelivery] = field(factory=deque, init=False)
    _receivers: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _end: Callable[[], Exception] | None = field(default=None, init=False)

    async def receive(self) -> EmbeddedDelivery:
        """The next delivery. If cancelled, it is still here for the next call."""
        if self._unreceived:
            await trio.lowlevel.checkpoint()
        # Taking one is the last step and waits for nothing, so a cancelled call has taken none. The loop, because
        # another receiver may have been quicker, or the link may have been lost meanwhile.
        while not self._unreceived:
            if self._end is not None:
                raise self._end()
            await self._receivers.park()
        return self._unreceived.popleft()

    def receive_nowait(self) -> EmbeddedDelivery | None:
        """The next delivery if it is here already."""
        return self._unreceived.popleft() if self._unreceived else None

    @property
    def unsettled(self) -> int:
        """How many were handed to it and are not settled."""
        return len(self._unsettled)

    @property
    def has_room(self) -> bool:
        """Whether the prefetch allows one more."""
        return self.unsettled < self._prefetch

    @property
    def room(self) -> int:
        """How many more the prefetch allows."""
        return self._prefetch - self.unsettled

    @property
    def is_in_use(self) -> bool:
        """Whether it can still get deliveries or has some that are not settled."""
        return self._end is None or bool(self._unsettled)

    def start(self) -> None:
        """Take part in the queue."""
        self.home.add(self)

    def take(self, delivery: EmbeddedDelivery) -> None:
        """Hand it to this consumer: from now on it counts as delivered."""
        delivery.hand_to(self)
        self._unsettled[delivery.position] = delivery
        self.home.unacked += 1
        self._unreceived.append(delivery)
        if self._receivers:
            self._receivers.unpark()

    def release(self, delivery: EmbeddedDelivery) -> bool:
        """Forget it; `False` when the queue has it back already."""
        if self._unsettled.pop(delivery.position, None) is None:
            return False
        self.home.unacked -= 1
        return True

    def stop(self) -> list[EmbeddedDelivery]:
        """Take no more, and return what nobody received. Received deliveries stay here until settled."""
        if self._end is not None:
            return []
        self._finish(partial(trio.ClosedResourceError, "this consumer was stopped"))
        unreceived = list(self._unreceived)
        self._unreceived.clear()
        for delivery in unreceived:
            self.release(delivery)
        return unreceived

    def lose(self, why: str) -> list[EmbeddedDelivery]:
        """The link is gone: return everything that is not settled, received or not."""
        self._finish(partial(LinkLost, why))
        self._unreceived.clear()
        unsettled = list(self._unsettled.values())
        for delivery in unsettled:
            self.release(delivery)
        return unsettled

    def _finish(self, end: Callable[[], Exception]) -> None:
        self._end = end
        self._receivers.unpark_all()
        self.home.remove(self)


@define(eq=False)
class EmbeddedQueue:
    """A queue with its consumers, served in turn. Ready messages are always in queue order."""

    name: str
    arguments: Mapping[str, str | int]
    _keep: int | None
    """How many messages stay while nobody consumes; `None`: all."""
    bury: Callable[[EmbeddedDelivery], None]
    """What happens to a rejected message."""
    _fresh: deque[EmbeddedDelivery] = field(factory=deque, init=False)
    """Never handed out yet, in order."""
    _returned: list[tuple[int, EmbeddedDelivery]] = field(factory=list, init=False)
    """A heap by position: handed out before and back again, so all of it stands ahead of what is fresh."""
    _consumers: deque[EmbeddedDeliveries] = field(factory=deque, init=False)
    unacked: int = field(default=0, init=False)
    """How many messages are with consumers; those who were stopped keep what they received until it is settled."""
    _positions: int = field(default=0, init=False)

    def put(self, publication: Publication) -> None:
        """Append a message, and hand it on where a consumer has room."""
        self._positions += 1
        self._fresh.append(EmbeddedDelivery(publication, publication.message, self.name, False, self._positions))
        if self._consumers:
            self.feed()
        elif self._keep is not None and self.ready > self._keep:
            self._next()

    def feed(self) -> None:
        """Hand out what is ready, to the consumers in turn, as far as their prefetch allows."""
        while (self._returned or self._fresh) and (consumer := self._next_consumer()) is not None:
            consumer.take(self._next())

    def take_back(self, deliveries: Iterable[EmbeddedDelivery]) -> None:
        """Return deliveries to their places, marked as redelivered, and hand them out again."""
        for returned in deliveries:
            heapq.heappush(self._returned, (returned.position, returned.again()))
        self.feed()

    def add(self, consumer: EmbeddedDeliveries) -> None:
        """Serve a new consumer."""
        self._consumers.append(consumer)
        self.feed()

    def remove(self, consumer: EmbeddedDeliveries) -> None:
        """Serve it no longer."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)

    def purge(self) -> int:
        """Drop what is ready, and say how much it was."""
        count = self.ready
        self._fresh.clear()
        self._returned.clear()
        return count

    @property
    def ready(self) -> int:
        """How many messages wait to be delivered."""
        return len(self._returned) + len(self._fresh)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is with a consumer and nothing waits that a consumer could take."""
        return not self.unacked and not (self.ready and self._consumers)

    @property
    def reach(self) -> int:
        """How many messages may be with consumers at a time, as they are now."""
        return self.unacked + sum(consumer.room for consumer in self._consumers)

    def view(self) -> QueueView:
        """What it holds now."""
        returned = (delivery.message for _, delivery in sorted(self._returned, key=itemgetter(0)))
        ready = (*returned, *(delivery.message for delivery in self._fresh))
        return QueueView(name=self.name, ready=ready, unacked=self.unacked, consumers=len(self._consumers))

    def _next_consumer(self) -> EmbeddedDeliveries | None:
        for _ in range(len(self._consumers)):
            consumer = self._consumers[0]
            self._consumers.rotate(-1)
            if consumer.has_room:
                return consumer
        return None

    def _next(self) -> EmbeddedDelivery:
        return heapq.heappop(self._returned)[1] if self._returned else self._fresh.popleft()
