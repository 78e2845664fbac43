"""A publishing connection: publishes go out in one write, their answers come back by number.

Before anything is written it is made sure that it can be answered: an exchange that does not exist would cost the
channel and all that is on its way with it, so each is looked up once per link.
"""

import logging
from collections.abc import Callable, Sequence

import trio
from attrs import define, field
from pamqp import commands

from milvaion_trio.broker.amqp.encoding import fits, publish_frames
from milvaion_trio.broker.amqp.events import BlockedEvent, ChannelClosedEvent, ConfirmedEvent, Event, ReturnedEvent
from milvaion_trio.broker.ladder import LADDER, first_rung
from milvaion_trio.broker.link import Link
from milvaion_trio.broker.rabbitmq.confirms import Batch, Confirms
from milvaion_trio.broker.rabbitmq.declaring import declare, exists
from milvaion_trio.model.alarm import Alarm
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.ports import Confirmation, Exchange, Queue

__all__ = ["RabbitMQPublisher"]

_logger = logging.getLogger("milvaion_trio.broker")


@define(eq=False, repr=False)
class RabbitMQPublisher:
    """Implements `ports.Publisher`. Calls may overlap; each keeps its own order."""

    link: Link = field(init=False)
    """Set once it is open; what comes before is heard all the same."""
    _channel: int = field(default=0, init=False)
    _confirms: Confirms = field(factory=Confirms, init=False)
    _known: set[tuple[type, str]] = field(factory=set, init=False)
    """What was seen to exist. If it is deleted later, the channel ends, and the link with it."""
    _has_ladder: bool = field(default=False, init=False)
    _alarm: Alarm = field(factory=Alarm, init=False)
    """Why the broker does not read what is published."""

    async def lost(self) -> str:
        """Return when the connection is gone, and why. If cancelled, nothing changes."""
        return await self.link.loss.wait()

    async def prepare(self) -> None:
        """Open the channel that everything is published on. If cancelled, the link is not to be used."""
        self._channel = await self.link.open_channel()
        await self.link.ask(self._channel, commands.Confirm.Select())

    def on_blocked(self, tell: Callable[[str], None]) -> None:
        """Tell of RabbitMQ's alarms: of memory, of disk."""
        self._alarm.listen(tell)

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Confirmation]:
        """Publish all in one go, then wait for the answers.

        A delayed publication is `REFUSED` while the delay queues cannot be declared; the log says why.
        If cancelled, any prefix may have arrived.
        """
        await trio.lowlevel.checkpoint()
        self.link.loss.check()
        real = [first_rung(publication) for publication in publications]
        answers = [await self._answer_beforehand(publication) for publication in publications]
        self.link.loss.check()
        answered = trio.Event()
        batch = Batch(answers, answered.set)
        self.link.write(b"".join(self._encode(real, batch)))
        await answered.wait()
        return [self._given(answer) for answer in batch.answers]

    def _encode(self, publications: Sequence[Publication], batch: Batch) -> list[bytes]:
        """The frames of those that have no answer yet, in order, each with its number taken."""
        frames = []
        for index, publication in enumerate(publications):
            if batch.answers[index] is None:
                exchange, key, message = publication.exchange, publication.routing_key, publication.message
                frames.append(publish_frames(self._channel, exchange, key, message, self.link.frame_max))
                self._confirms.add(publication, batch, index)
        return frames

    def _given(self, answer: Confirmation | None) -> Confirmation:
        if answer is None:
            raise LinkLost(self.link.loss.why)
        return answer

    # --- answers that need no publish -------------------------------------------------------------------------------

    async def _answer_beforehand(self, publication: Publication) -> Confirmation | None:
        """`None` when the broker is to answer it. If cancelled, nothing was published."""
        if not fits(publication.exchange) or not fits(publication.routing_key):
            return Confirmation.UNROUTABLE  # no exchange, queue or binding has so long a name
        if publication.delay > 0:
            if not await self._ladder_stands():
                return Confirmation.REFUSED
            return await self._answer_unless_there(Queue(publication.routing_key))
        if publication.exchange:
            return await self._answer_unless_there(Exchange(publication.exchange, ""))
        return None

    async def _answer_unless_there(self, what: Exchange | Queue) -> Confirmation | None:
        if (type(what), what.name) not in self._known:
            if not await exists(self.link, what):
                return Confirmation.UNROUTABLE
            self._known.add((type(what), what.name))
        return None

    async def _ladder_stands(self) -> bool:
        if not self._has_ladder:
            try:
                await declare(self.link, LADDER)
            except SettingsError as error:
                _logger.error(
                    "no message can be delayed at %s: %s", self.link.endpoint.where, "; ".join(error.problems)
                )
                return False
            self._has_ladder = True
        return True

    # --- what comes -------------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """What the broker says to a publisher."""
        match event:
            case ConfirmedEvent(_, number, multiple, is_stored):
                self._confirms.confirmed(number, multiple=multiple, is_stored=is_stored)
            case ReturnedEvent(_, exchange, routing_key, message):
                self._confirms.returned(exchange, routing_key, message)
            case BlockedEvent(why):
                self._alarm.say(why)
            case ChannelClosedEvent(channel=channel, why=why) if channel == self._channel:
                self.link.loss.declare(f"RabbitMQ closed the channel that publishes: {why}")

    def after_loss(self, why: str) -> None:
        """Tell those who wait for answers."""
        self._confirms.lost()
