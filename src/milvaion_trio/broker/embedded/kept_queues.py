"""Queues, delays and dead letters that are in a file too.

Separate from the broker, which connects and publishes: here is what becomes of a message that has arrived. Who gets
which one is decided as in memory.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence

from attrs import define, field

from milvaion_trio.broker.embedded.delays import Delays
from milvaion_trio.broker.embedded.keeping import Keeping
from milvaion_trio.broker.embedded.queues import EmbeddedDelivery, EmbeddedQueue
from milvaion_trio.broker.embedded.stored import StoredMessage
from milvaion_trio.broker.embedded.vhost import VirtualHost
from milvaion_trio.model.envelope import Publication
from milvaion_trio.ports import Topology

__all__ = ["KeptDelays", "KeptHost", "kept_queue"]


@define(eq=False)
class KeptDelivery(EmbeddedDelivery):
    """A delivery whose message is in a file too."""

    forget: Callable[[Sequence[int]], None] = field(kw_only=True)

    def ack(self) -> None:
        """Done: the file forgets the message too."""
        if (holder := self._settle()) is not None:
            self.forget((self.position,))
            holder.home.feed()

    def again(self) -> EmbeddedDelivery:
        """The same message in the same place, for who gets it next."""
        return KeptDelivery(self.publication, self.message, self.queue, True, self.position, forget=self.forget)


@define(eq=False)
class KeptQueue(EmbeddedQueue):
    """A queue whose messages are in a file too; their places are their numbers there."""

    _forget: Callable[[Sequence[int]], None] = field(kw_only=True)
    promised: int = field(default=0, init=False)
    """How many more messages those will be able to hold who are about to consume."""

    def arrive(self, message: StoredMessage) -> None:
        """Append a message that is in the file; one that was handed out before stands ahead of all others."""
        publication, number = message.publication, message.number
        redelivered = number <= self._positions
        delivery = KeptDelivery(publication, publication.message, self.name, redelivered, number, forget=self._forget)
        if redelivered:
            heapq.heappush(self._returned, (number, delivery))
        else:
            self._positions = number
            self._fresh.append(delivery)
        if self._consumers:
            self.feed()
        elif self._keep is not None and self.ready > self._keep:
            self._forget((self._next().position,))

    @property
    def handed_out(self) -> int:
        """The place up to which all was handed out."""
        return self._fresh[0].position - 1 if self._fresh else self._positions

    @handed_out.setter
    def handed_out(self, number: int) -> None:
        self._positions = number

    def purge(self) -> int:
        """Drop what is ready, and say how much it was."""
        self._forget([delivery.position for delivery in (*(each for _, each in self._returned), *self._fresh)])
        return EmbeddedQueue.purge(self)


def kept_queue(queue: EmbeddedQueue) -> KeptQueue:
    """One of a `KeptHost`, as that."""
    if not isinstance(queue, KeptQueue):
        raise AssertionError(f"queue {queue.name} was not made here")
    return queue


@define(eq=False)
class KeptHost(VirtualHost):
    """What is declared and dead-lettered is in a file too."""

    _keeping: Keeping

    def declare(self, topology: Topology) -> None:
        """As in memory, and in the file before anything that is published from now on."""
        VirtualHost.declare(self, topology)
        self._keeping.declare(topology)

    def _new_queue(self, name: str, arguments: Mapping[str, str | int], keep: int | None) -> EmbeddedQueue:
        return KeptQueue(name, arguments, keep, self._bury, forget=self._keeping.remove)

    def _bury(self, delivery: EmbeddedDelivery) -> None:
        """In one transaction it leaves its queue and comes into that of dead letters."""
        dead = self._dead_letter(delivery)
        queues = () if dead is None else self.route(dead.exchange, dead.routing_key)
        copies = (
            [] if dead is None else [StoredMessage(self._keeping.next_number(), each.name, dead) for each in queues]
        )
        self._keeping.remove((delivery.position,), copies)


@define(eq=False)
class KeptDelays(Delays):
    """What is due moves in the file first."""

    _keeping: Keeping

    def _put(self, number: int, publication: Publication) -> None:
        self._keeping.move(number, publication)
