"""The connections of one life of a worker to the embedded broker, with everything that a network does to them.

The broker itself does no wrong here: what is lost, held or late is so on the way. Written as an adapter of
`ports.Broker`, so that the worker has nothing of it to know.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio
from attrs import define, field

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.broker.embedded.links import EmbeddedConsumer, EmbeddedLink, EmbeddedPublisher, LinkKind
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import DeliverySettled, LinkLost
from milvaion_trio.model.headers import attempt_key, occurrence_id
from milvaion_trio.ports import Confirmation, Deliveries, Delivery, QueueState, Topology
from milvaion_trio.runtime.reporting import label
from torture.simulation.plan import Point

__all__ = ["HEADER", "Cable", "about"]

HEADER: Final = "x-sim-kept"
"""A header of every dispatch, which every copy has to keep."""

CUT: Final = "the simulation cut this connection"


def about(message: Message) -> str:
    """The attempt that a job message asks for, as text; nothing where it does not say."""
    occurrence = occurrence_id(message)
    return "" if occurrence is None else label(attempt_key(message, occurrence))


@define(eq=False)
class Cable:
    """Implements `ports.Broker` for one life."""

    broker: EmbeddedBroker
    lag: float
    note: Callable[[str, str, str, bytes], None]
    """Tell the trace: what, about what, details, bytes."""
    reach: Callable[[Point], None]
    """Say that this life comes by a point, where a trap may spring."""
    is_cut: bool = field(default=False, init=False)
    """For good: the process at this end is dead."""
    refuses: bool = field(default=False, init=False)
    """Whether no connection can be had."""
    holds_confirms: bool = field(default=False, init=False)
    holds_acks: bool = field(default=False, init=False)
    holds_deliveries: bool = field(default=False, init=False)
    blocked: str = field(default="", init=False)
    """Why nothing that is published is read at present."""
    refusals: int = field(default=0, init=False)
    """How many of the next publishes the broker refuses."""
    _links: list[EmbeddedLink] = field(factory=list, init=False)
    _held_acks: list[Delivery] = field(factory=list, init=False)
    _gate: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    """Who waits for anything that is held, or for the loss of the link."""
    _tell_blocked: list[Callable[[str], None]] = field(factory=list, init=False)

    @property
    def name(self) -> str:
        """For messages to people."""
        return self.broker.name

    # --- for the worker ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator["CablePublisher"]:
        """Open a publishing connection. If cancelled, none was opened."""
        self._check_reachable()
        async with self.broker.publishing() as link:
            self._check_reachable()
            self._links.append(link)
            try:
                yield CablePublisher(self, link)
            finally:
                self._links.remove(link)
                self._tell_blocked.clear()

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator["CableConsumer"]:
        """Open a consuming connection; leaving it, also by cancellation, returns every unsettled delivery."""
        self._check_reachable()
        async with self.broker.consuming() as link:
            self._check_reachable()
            self._links.append(link)
            try:
                yield CableConsumer(self, link)
            finally:
                self._links.remove(link)

    # --- for those who hurt it --------------------------------------------------------------------------------------

    def sever(self, *kinds: LinkKind) -> None:
        """Lose the open connections of these kinds."""
        if "consuming" in kinds:
            self._held_acks.clear()  # they were on their way
        for link in tuple(self._links):
            if link.kind in kinds:
                link.lose(CUT)
        self.look_again()

    def cut(self) -> None:
        """Lose everything for good: nothing that this end does from now on arrives anywhere."""
        self.is_cut = True
        self.sever("publishing", "consuming")

    def block(self, why: str) -> None:
        """Stop reading what is published, or read it again (no reason)."""
        self.blocked = why
        for tell in tuple(self._tell_blocked):
            tell(why)
        self.look_again()

    def release_acks(self) -> None:
        """Let acks through again, first those that were held."""
        self.holds_acks = False
        held, self._held_acks = self._held_acks, []
        for delivery in held:
            delivery.ack()

    def look_again(self) -> None:
        """Wake those who wait: something is held no more, or a link is gone."""
        self._gate.unpark_all()

    # --- for the links ----------------------------------------------------------------------------------------------

    async def until(self, is_open: Callable[[], bool], link: EmbeddedLink) -> None:
        """Return when it is open; raise `LinkLost` when the link is gone. If cancelled, nothing changes."""
        while not is_open():
            link.check()
            await self._gate.park()
        link.check()

    def arrive(self, publication: Publication) -> Confirmation:
        """One message reaches the broker."""
        message = publication.message
        if self.refusals:
            self.refusals -= 1
            answer = Confirmation.REFUSED
        else:
            answer = self.broker.publish_nowait(publication)
        if answer is Confirmation.CONFIRMED:
            detail = f"{publication.exchange}>{publication.routing_key}"
            if HEADER in message.headers:  # a copy of a dispatch
                detail = f"{about(message)} in {publication.delay:g} s, {message.headers[HEADER]} {detail}"
            self.note("stored", message.message_id or "", detail, message.body)
        else:
            self.note(answer.value, message.message_id or "", "", b"")
        return answer

    def ack(self, delivery: Delivery) -> None:
        """One ack goes its way."""
        if self.holds_acks:
            self._held_acks.append(delivery)
        else:
            delivery.ack()

    def on_blocked(self, tell: Callable[[str], None]) -> None:
        """Tell of blocking from now on."""
        self._tell_blocked.append(tell)
        if self.blocked:
            tell(self.blocked)

    def _check_reachable(self) -> None:
        if self.is_cut or self.refuses:
            raise LinkLost("the simulation refuses connections")


@define(eq=False)
class CablePublisher:
    """Implements `ports.Publisher`."""

    _cable: Cable
    _link: EmbeddedPublisher
    _way: trio.StrictFIFOLock = field(factory=trio.StrictFIFOLock, init=False)
    """What is published first arrives first."""

    async def lost(self) -> str:
        """Return when the connection is gone, and why. If cancelled, nothing changes."""
        return await self._link.lost()

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Confirmation]:
        """Publish after the lag, and return the answers after as long. If cancelled, any prefix may have arrived."""
        cable, link = self._cable, self._link
        if cable.lag or cable.blocked or self._way.locked():
            async with self._way:
                await trio.sleep(cable.lag)
                await cable.until(lambda: not cable.blocked, link)
                answers = self._arrive(publications)
        else:
            link.check()
            answers = self._arrive(publications)
        await trio.sleep(cable.lag)
        await cable.until(lambda: not cable.holds_confirms, link)
        for publication, answer in zip(publications, answers, strict=True):
            if answer is Confirmation.CONFIRMED:
                cable.note("confirmed", publication.message.message_id or "", "", b"")
        cable.reach(Point.CONFIRMED)
        link.check()
        return answers

    def on_blocked(self, tell: Callable[[str], None]) -> None:
        """Call `tell` when the broker stops reading and when it reads again."""
        self._cable.on_blocked(tell)

    def _arrive(self, publications: Sequence[Publication]) -> list[Confirmation]:
        cable, link = self._cable, self._link
        cable.reach(Point.PUBLISH)
        link.check()
        middle = (len(publications) + 1) // 2
        answers = [cable.arrive(publication) for publication in publications[:middle]]
        if len(publications) > 1:
            cable.reach(Point.PART)
            link.check()
            answers += [cable.arrive(publication) for publication in publications[middle:]]
        cable.reach(Point.STORED)
        link.check()
        return answers


@define(eq=False)
class CableConsumer:
    """Implements `ports.Consumer`."""

    _cable: Cable
    _link: EmbeddedConsumer

    async def lost(self) -> str:
        """Return when the connection is gone, and why. If cancelled, nothing changes."""
        return await self._link.lost()

    async def declare(self, topology: Topology) -> None:
        """Make the topology exist. If cancelled, nothing was declared."""
        await self._link.declare(topology)

    @asynccontextmanager
    async def consume(self, queue: str, *, prefetch: int) -> AsyncIterator["CableDeliveries"]:
        """Consume a queue. If cancelled, nothing is consumed."""
        async with self._link.consume(queue, prefetch=prefetch) as deliveries:
            yield CableDeliveries(self._cable, self._link, deliveries)

    async def state(self, queue: str) -> QueueState | None:
        """The queue as it is now. If cancelled, nothing changes."""
        return await self._link.state(queue)

    async def depth(self, queue: str, *, may_wait: bool) -> int:
        """How many messages are there or on their way. If cancelled, nothing changes."""
        return await self._link.depth(queue, may_wait=may_wait)


@define(eq=False)
class CableDeliveries:
    """Implements `ports.Deliveries`."""

    _cable: Cable
    _link: EmbeddedLink
    _inner: Deliveries

    async def receive(self) -> Delivery:
        """The next delivery; one that is held stays with the consumer. If cancelled, it is here for the next call."""
        cable = self._cable
        await cable.until(lambda: not cable.holds_deliveries, self._link)
        return self._handed(await self._inner.receive())

    def receive_nowait(self) -> Delivery | None:
        """The next delivery if it is here already and not held."""
        if self._cable.holds_deliveries:
            return None
        delivery = self._inner.receive_nowait()
        return None if delivery is None else self._handed(delivery)

    @property
    def unsettled(self) -> int:
        """How many came and are not settled."""
        return self._inner.unsettled

    def _handed(self, delivery: Delivery) -> Delivery:
        again = " again" if delivery.redelivered else ""
        self._cable.note("handed", about(delivery.message), f"{delivery.queue}{again}", b"")
        self._cable.reach(Point.HANDED)
        return CableDelivery(self._cable, self._link, delivery)


@define(eq=False)
class CableDelivery:
    """Implements `ports.Delivery`."""

    _cable: Cable
    _link: EmbeddedLink
    _inner: Delivery
    _is_settled: bool = field(default=False, init=False)

    @property
    def message(self) -> Message:
        """The message, as published."""
        return self._inner.message

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self._inner.queue

    @property
    def redelivered(self) -> bool:
        """Whether it was handed out before."""
        return self._inner.redelivered

    def ack(self) -> None:
        """Done; it takes effect when the ack arrives."""
        self._settle("acked")
        self._cable.ack(self._inner)
        self._cable.reach(Point.ACKED)

    def requeue(self) -> None:
        """Not done: it goes back."""
        self._settle("returned")
        self._inner.requeue()

    def reject(self) -> None:
        """Never: it is dead-lettered."""
        self._settle("rejected")
        self._inner.reject()

    def _settle(self, how: str) -> None:
        if self._is_settled:
            raise DeliverySettled(f"{about(self.message)} was settled twice")
        self._is_settled = True
        if not self._link.is_gone:
            self._cable.note(how, about(self.message), self.queue, b"")
