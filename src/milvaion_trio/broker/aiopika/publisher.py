"""A publishing connection: publishes go out in one write, their answers come back by number.

Before anything is written it is made sure that it can be answered: an exchange that does not exist would cost the
channel and all that is on its way with it, so each is looked up once per link.
"""

import logging
from collections.abc import Callable, Sequence

import aiormq
import trio
from attrs import define, field

from milvaion_trio.broker.aiopika.confirms import Batch, Confirms, Sent
from milvaion_trio.broker.aiopika.declaring import declare, exists
from milvaion_trio.broker.aiopika.encoding import as_sent, fits, publish_frames
from milvaion_trio.broker.aiopika.frames import BlockedEvent, ConfirmedEvent, Event, ReturnedEvent
from milvaion_trio.broker.aiopika.link import AioPikaLink
from milvaion_trio.broker.ladder import LADDER, first_rung
from milvaion_trio.model.alarm import Alarm
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.ports import Confirmation, Exchange, Queue

__all__ = ["AioPikaPublisher"]

_logger = logging.getLogger("milvaion_trio.broker")


@define(eq=False, repr=False)
class AioPikaPublisher(AioPikaLink):
    """Implements `ports.Publisher`. Calls may overlap; each keeps its own order."""

    _channel: aiormq.Channel = field(init=False)
    _frame_max: int = field(init=False)
    _confirms: Confirms = field(factory=Confirms, init=False)
    _known: set[tuple[type, str]] = field(factory=set, init=False)
    """What was seen to exist. If it is deleted later, the channel ends, and the link with it."""
    _has_ladder: bool = field(default=False, init=False)
    _alarm: Alarm = field(factory=Alarm, init=False)
    """Why the broker does not read what is published."""

    def on_blocked(self, tell: Callable[[str], None]) -> None:
        """Tell of RabbitMQ's alarms: of memory, of disk."""
        self._alarm.listen(tell)

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Confirmation]:
        """Publish all in one go, then wait for the answers.

        A delayed publication is `REFUSED` while the delay queues cannot be declared; the log says why.
        If cancelled, any prefix may have arrived.
        """
        await trio.lowlevel.checkpoint()
        self.check()
        real = [first_rung(publication) for publication in publications]
        answers = [await self._answer_beforehand(publication) for publication in publications]
        self.check()
        answered = trio.Event()
        batch = Batch(answers, answered.set)
        self.write(b"".join(self._encode(real, batch)))
        await answered.wait()
        return [self._given(answer) for answer in batch.answers]

    def _encode(self, publications: Sequence[Publication], batch: Batch) -> list[bytes]:
        """The frames of those that have no answer yet, in order, each with its number taken."""
        frames = []
        for index, publication in enumerate(publications):
            if batch.answers[index] is None:
                exchange, key, message = publication.exchange, publication.routing_key, publication.message
                frames.append(publish_frames(self._channel.number, exchange, key, message, self._frame_max))
                self._confirms.add(Sent(exchange, key, as_sent(message.message_id)), batch, index)
        return frames

    def _given(self, answer: Confirmation | None) -> Confirmation:
        if answer is None:
            raise LinkLost(self._why)
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
            if not await exists(self, what):
                return Confirmation.UNROUTABLE
            self._known.add((type(what), what.name))
        return None

    async def _ladder_stands(self) -> bool:
        if not self._has_ladder:
            try:
                await declare(self, LADDER)
            except SettingsError as error:
                _logger.error("no message can be delayed at %s: %s", self._endpoint.address, "; ".join(error.problems))
                return False
            self._has_ladder = True
        return True

    # --- the link ---------------------------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        self._channel = await self.open_channel()
        await self._channel.confirm_delivery()
        self._frame_max = self._channel.connection.connection_tune.frame_max
        self._in_use[self._channel.number] = "that publishes"

    def _hear(self, event: Event) -> None:
        match event:
            case ConfirmedEvent(_, number, multiple, is_stored):
                self._confirms.confirmed(number, multiple=multiple, is_stored=is_stored)
            case ReturnedEvent(_, exchange, routing_key, message):
                self._confirms.returned(Sent(exchange, routing_key, message.message_id))
            case BlockedEvent(why):
                self._alarm.say(why)
                super()._hear(event)
            case _:
                super()._hear(event)

    def _after_loss(self, why: str) -> None:
        self._confirms.lost()
