"""The embedded broker as its users see it: connections, a look inside, and faults on demand.

Separate from its parts, which know nothing of each other; here they are put together.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import trio
from attrs import define, field

from milvaion_trio.broker.embedded.delays import Delays
from milvaion_trio.broker.embedded.links import EmbeddedConsumer, EmbeddedLink, EmbeddedPublisher, Gate, LinkKind
from milvaion_trio.broker.embedded.queues import QueueView
from milvaion_trio.broker.embedded.vhost import VirtualHost
from milvaion_trio.model.alarm import Alarm
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.ports import Confirmation, Topology

__all__ = ["EmbeddedBroker"]

KEEP = 10_000
"""About 10 MB of status messages: enough to look at, too little to notice."""

_Link = TypeVar("_Link", bound=EmbeddedLink)


@define(eq=False)
class EmbeddedBroker:
    """Implements `ports.Broker` for one `trio.run` at a time; everything that shares its queues is given the same one.

    Of a queue's arguments only the dead-letter ones act; the others are remembered and compared, no more.

    A queue without dead-letter arguments keeps at most `keep` messages while nobody consumes it, and drops the oldest:
    reports to a Milvaion server that does not exist must not fill the memory. Job queues have a dead-letter exchange
    and are never bounded, nor is the hop queue.

    Delayed messages move while any connection is open; what became due without one moves when the next is opened.
    """

    _keep: int = field(default=KEEP, kw_only=True)
    on_publish: list[Callable[[Publication], None]] = field(factory=list, init=False)
    """Called with each publication that was confirmed, once, when it was published."""
    refuse_connections: bool = field(default=False, init=False)
    """While true, nobody can connect; open connections stay."""
    _vhost: VirtualHost = field(init=False)
    _delays: Delays = field(init=False)
    _reading: Gate = field(factory=Gate, init=False)
    _confirms: Gate = field(factory=Gate, init=False)
    _blocked: str = field(default="", init=False)
    _links: list[EmbeddedLink] = field(factory=list, init=False)
    _refusals: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._vhost = VirtualHost(self._keep)
        self._delays = Delays(self._vhost)

    @property
    def name(self) -> str:
        """For messages to people."""
        return "the embedded broker"

    @property
    def folder(self) -> Path | None:
        """Where its queues survive the process, as those of `durable.DurableBroker` do; `None`: nowhere."""
        return None

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[EmbeddedPublisher]:
        """Open a publishing connection. If cancelled, none was opened."""
        alarm = Alarm(self._blocked)
        publisher = EmbeddedPublisher("publishing", self.publish_nowait, self._reading, self._confirms, alarm)
        async with self._open(publisher) as link:
            yield link

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[EmbeddedConsumer]:
        """Open a consuming connection; leaving it, also by cancellation, returns every unsettled delivery."""
        async with self._open(EmbeddedConsumer("consuming", self.declare_nowait, self._vhost, self._delays)) as link:
            yield link

    def publish_nowait(self, publication: Publication) -> Confirmation:
        """Publish; a delay needs a running Trio for its clock."""
        if self._refusals:
            self._refusals -= 1
            return Confirmation.REFUSED
        if publication.delay > 0:
            if publication.routing_key not in self._vhost.queues:
                return Confirmation.UNROUTABLE
            self._delays.add(publication)
        elif not self._vhost.put(publication):
            return Confirmation.UNROUTABLE
        for observe in self.on_publish:
            observe(publication)
        return Confirmation.CONFIRMED

    def declare_nowait(self, topology: Topology) -> None:
        """Make all of it exist, or nothing and raise `SettingsError`."""
        self._vhost.declare(topology)

    def queue(self, name: str) -> QueueView:
        """A queue as it is now; raises `LookupError` when there is none of this name."""
        return self._vhost.queue(name).view()

    @property
    def queues(self) -> tuple[str, ...]:
        """The names of all queues, in the order they were declared."""
        return tuple(self._vhost.queues)

    @property
    def delayed(self) -> int:
        """How many messages wait for their time."""
        return len(self._delays)

    @property
    def next_due(self) -> float | None:
        """When the next delayed message moves, by `trio.current_time()`; `None` when none waits for its time."""
        return self._delays.next_due

    @property
    def idle(self) -> bool:
        """Whether nothing is delayed, nothing unsettled, and nothing ready where somebody consumes."""
        return not self._delays and all(queue.is_idle for queue in self._vhost.queues.values())

    def purge(self, queue: str) -> int:
        """Drop the ready messages of a queue and say how many there were."""
        return self._vhost.queue(queue).purge()

    def drop_connection(self, which: Literal["all"] | LinkKind = "all") -> None:
        """Lose the open connections, as if the network had: who waits on them gets `LinkLost`."""
        for link in tuple(self._links):
            if which in ("all", link.kind):
                link.lose("the embedded broker dropped the connection")
        self._reading.look_again()
        self._confirms.look_again()

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """While inside, all connections are lost and no new one can be had."""
        before = self.refuse_connections
        self.refuse_connections = True
        try:
            self.drop_connection()
            yield
        finally:
            self.refuse_connections = before

    def refuse_next(self, publications: int) -> None:
        """Answer `REFUSED` to that many of the next publications."""
        self._refusals = publications

    @contextmanager
    def blocking(self, why: str = "an alarm") -> Iterator[None]:
        """While inside, nothing that is published over a connection is read, as under RabbitMQ's alarms."""
        before = self._blocked
        self._block(why)
        try:
            with self._reading.hold():
                yield
        finally:
            self._block(before)

    def hold_confirms(self) -> AbstractContextManager[None]:
        """While inside, messages arrive but their confirms do not: `publish` waits."""
        return self._confirms.hold()

    def _block(self, why: str) -> None:
        self._blocked = why
        for link in tuple(self._links):
            if isinstance(link, EmbeddedPublisher):
                link.alarm.say(why)

    @asynccontextmanager
    async def _open(self, link: _Link) -> AsyncIterator[_Link]:
        await trio.lowlevel.checkpoint()
        if self.refuse_connections:
            raise LinkLost("the embedded broker refuses connections")
        self._links.append(link)
        failure: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._delays.keep_time, partial(getattr, link, "is_gone"))
                try:
                    yield link
                except BaseException as error:  # noqa: ASYNC103  # raised again below, out of the nursery
                    failure = error
                # Shielded, so that a cancellation from outside, which the body got already, is not raised again by
                # the nursery in place of what the body raised.
                nursery.cancel_scope.shield = True
                nursery.cancel_scope.cancel()
        finally:
            self._links.remove(link)
            link.lose("this connection was closed")
        if failure is not None:
            raise failure
