"""An embedded broker whose queues survive its process: all of them are kept in a folder.

Separate from the one in memory, which it extends, so that who needs no disk pays nothing for it. Only where messages
come, go and wait differs; who gets which message is decided as it is there.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from attrs import define, field

from milvaion_trio.broker.embedded.broker import EmbeddedBroker
from milvaion_trio.broker.embedded.keeping import Batch, Keeping
from milvaion_trio.broker.embedded.kept_queues import KeptDelays, KeptHost, kept_queue
from milvaion_trio.broker.embedded.links import EmbeddedConsumer, EmbeddedPublisher
from milvaion_trio.broker.embedded.queues import EmbeddedDeliveries
from milvaion_trio.broker.embedded.store import Contents, Store
from milvaion_trio.broker.embedded.stored import StoredMessage
from milvaion_trio.broker.embedded.vhost import VirtualHost
from milvaion_trio.disk.writer import OpenWriter, open_writer
from milvaion_trio.model.alarm import Alarm
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.ports import Confirmation

__all__ = ["QUEUES_FILE", "DurableBroker"]

QUEUES_FILE = "queues.db"
"""In the folder."""


def _absolute(folder: str | Path) -> Path:
    """Seen from where the process is now: a job may go elsewhere."""
    return Path(folder).absolute()


@define(eq=False)
class DurableBroker(EmbeddedBroker):
    """An `EmbeddedBroker` with a folder: `async with DurableBroker(folder).open() as broker:`, around all that use it.

    A message is confirmed, and reaches its queue, when it is in the file; an ack removes it there. When the process was
    killed, what was with consumers is delivered again, marked as redelivered; where consumers had just left, so may be
    as many messages as they could hold. Not marked is what was handed out while acks of the last moment, which are
    written in batches, were not in the file yet: what they were for comes again in its place. One process has the
    folder at a time. While nothing can be written, all that is published is refused.
    """

    _folder: Path = field(converter=_absolute)
    _durability: str = field(default="NORMAL", kw_only=True)
    _open_writer: OpenWriter = field(default=open_writer, kw_only=True)
    _clock: Callable[[], float] = field(default=time.time, kw_only=True)
    """Seconds; one that goes on when the process has ended."""
    _keeping: Keeping = field(init=False)

    def __attrs_post_init__(self) -> None:
        store = Store(self._folder / QUEUES_FILE, self._durability)
        self._keeping = Keeping(store, self._open_writer, self._arrive, self._block)
        self._vhost = KeptHost(self._keep, self._keeping)
        self._delays = KeptDelays(self._vhost, self._keeping)

    @property
    def name(self) -> str:
        """For messages to people."""
        return f"the embedded broker in {self._folder}"

    @property
    def folder(self) -> Path:
        """Where its queues survive the process."""
        return self._folder

    @property
    def idle(self) -> bool:
        """Whether nothing is delayed, nothing unsettled or unwritten, and nothing ready where somebody consumes."""
        return self._keeping.is_idle and not self._delays and all(each.is_idle for each in self._vhost.queues.values())

    @asynccontextmanager
    async def open(self) -> AsyncIterator["DurableBroker"]:
        """Have the folder while the context is open, with all that an earlier process left in it; once.

        Raises `StoreUnavailable` where another process has it, or where it cannot be read or written.
        On leaving, cancelled or not, all is in the file.
        """
        failure: BaseException | None = None
        async with self._keeping.open(self._restore, self._handed_out):
            try:
                yield self
            except BaseException as error:  # noqa: ASYNC103  # raised again below, out of the nursery
                failure = error
        if failure is not None:
            raise failure

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[EmbeddedPublisher]:
        """Open a publishing connection. If cancelled, none was opened."""
        publisher = _KeptPublisher(
            "publishing",
            self.publish_nowait,
            self._reading,
            self._confirms,
            Alarm(self._blocked),
            offer=self._offer,
        )
        async with self._open(publisher) as link:
            yield link

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[EmbeddedConsumer]:
        """Open a consuming connection; leaving it, also by cancellation, returns every unsettled delivery."""
        consumer = _KeptConsumer("consuming", self.declare_nowait, self._vhost, self._delays, keeping=self._keeping)
        async with self._open(consumer) as link:
            yield link

    def publish_nowait(self, publication: Publication) -> Confirmation:
        """Not here, as a confirm comes from the disk: raises `RuntimeError`."""
        raise RuntimeError("a broker with a folder confirms what is in its file: publish over a connection of it")

    def _offer(self, publication: Publication) -> Confirmation | Batch:
        """The answer, or the batch whose fate will be the answer."""
        if self._refusals:
            self._refusals -= 1
            return Confirmation.REFUSED
        if publication.delay > 0:
            if publication.routing_key not in self._vhost.queues:
                return Confirmation.UNROUTABLE
            first, delay = self._delays.first_leg(publication)
            due = self._clock() + delay
            message = StoredMessage(self._keeping.next_number(), first.routing_key, first, due)
            return self._keeping.publish(publication, (message,))
        queues = self._vhost.route(publication.exchange, publication.routing_key)
        if not queues:
            return Confirmation.UNROUTABLE
        copies = [StoredMessage(self._keeping.next_number(), queue.name, publication) for queue in queues]
        return self._keeping.publish(publication, copies)

    def _arrive(self, batch: Batch) -> None:
        for message in batch.arriving:
            self._put(message)
        for publication in batch.published:
            for observe in self.on_publish:
                observe(publication)

    def _put(self, message: StoredMessage) -> None:
        if message.due is None:
            kept_queue(self._vhost.queues[message.queue]).arrive(message)
        else:
            left = message.due - self._clock()
            self._delays.wait(trio.current_time() + left, message.number, message.publication)

    def _restore(self, contents: Contents) -> None:
        VirtualHost.declare(self._vhost, contents.topology)
        for name, number in contents.handed_out.items():
            kept_queue(self._vhost.queues[name]).handed_out = number
        for message in contents.messages:
            self._put(message)

    def _handed_out(self) -> Mapping[str, int]:
        return {name: kept_queue(queue).handed_out for name, queue in self._vhost.queues.items()}


# --- connections ----------------------------------------------------------------------------------------------------


@define(eq=False)
class _KeptPublisher(EmbeddedPublisher):
    offer: Callable[[Publication], Confirmation | Batch] = field(kw_only=True)

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Confirmation]:
        """Write all in one go, then wait for the disk. If cancelled, all of it will arrive, or nothing."""
        await trio.lowlevel.checkpoint()
        self.check()
        await self._reading.passed(self)
        offers = [self.offer(publication) for publication in publications]
        answers = [offer if isinstance(offer, Confirmation) else await _answer(offer) for offer in offers]
        await self._confirms.passed(self)
        return answers


async def _answer(batch: Batch) -> Confirmation:
    """What became of it. If cancelled, it goes on."""
    await batch.tried.wait()
    return Confirmation.CONFIRMED if batch.is_written else Confirmation.REFUSED


@define(eq=False)
class _KeptConsumer(EmbeddedConsumer):
    keeping: Keeping = field(kw_only=True)

    @asynccontextmanager
    async def consume(self, queue: str, *, prefetch: int) -> AsyncIterator[EmbeddedDeliveries]:
        """As in memory, once the disk knows how much consumers may hold. If cancelled, nothing is consumed."""
        self.check()
        home = kept_queue(self._consumable(queue))
        home.promised += prefetch
        try:
            if await _answer(self.keeping.reach(queue, home.reach + home.promised)) is not Confirmation.CONFIRMED:
                raise LinkLost("the embedded broker cannot write its file")
        finally:
            home.promised -= prefetch
        async with EmbeddedConsumer.consume(self, queue, prefetch=prefetch) as deliveries:
            yield deliveries

    async def depth(self, queue: str, *, may_wait: bool) -> int:
        """As in memory, with what is being written. If cancelled, nothing changes."""
        return await EmbeddedConsumer.depth(self, queue, may_wait=may_wait) + self.keeping.underway(queue)
