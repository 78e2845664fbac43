"""Which publishes of a channel still wait for the broker's answer.

Pure: it is told what was sent and what came, and says when a batch is answered. Returns are told apart by what was
sent and by their order, not by message ids: those may be absent, and equal on purpose (the same row sent again).
"""

from collections.abc import Callable
from itertools import takewhile

from attrs import define, field

from milvaion_trio.broker.amqp.encoding import as_sent
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.ports import Confirmation

__all__ = ["Batch", "Confirms"]


@define(eq=False)
class Batch:
    """Publications that are waited for together; `done` is called once all are answered or never will be."""

    answers: list[Confirmation | None]
    _done: Callable[[], None]
    _left: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._left = self.answers.count(None)
        if not self._left:
            self._done()

    def answer(self, index: int, answer: Confirmation) -> None:
        """Settle one of them."""
        self.answers[index] = answer
        self._left -= 1
        if not self._left:
            self._done()

    def give_up(self) -> None:
        """No more answers will come."""
        self._done()


@define(eq=False)
class _Waiting:
    publication: Publication
    batch: Batch
    index: int
    is_returned: bool = field(default=False, init=False)

    def may_be(self, exchange: str, routing_key: str, message: Message) -> bool:
        """Whether that is what came back of it, as far as anybody can tell."""
        ours = self.publication
        return (ours.exchange, ours.routing_key, as_sent(ours.message.message_id)) == (
            exchange,
            routing_key,
            message.message_id,
        )


@define(eq=False)
class Confirms:
    """The numbers of one channel in confirm mode, from 1 on."""

    _count: int = field(default=0, init=False)
    _waiting: dict[int, _Waiting] = field(factory=dict, init=False)
    """By number, in order."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, publication: Publication, batch: Batch, index: int) -> None:
        """The next publish on the channel; its answer goes to that place of the batch."""
        self._count += 1
        self._waiting[self._count] = _Waiting(publication, batch, index)

    def returned(self, exchange: str, routing_key: str, message: Message) -> None:
        """No queue took it. The broker answers in order, so it is the first of equal ones that is still waiting."""
        for waiting in self._waiting.values():
            if not waiting.is_returned and waiting.may_be(exchange, routing_key, message):
                waiting.is_returned = True
                return

    def confirmed(self, number: int, *, multiple: bool, is_stored: bool) -> None:
        """The answer to that publish, or to all up to it."""
        if not multiple:
            self._settle(number, is_stored=is_stored)
            return
        for waiting in list(takewhile(lambda one: one <= number, self._waiting)):
            self._settle(waiting, is_stored=is_stored)

    def lost(self) -> None:
        """Nothing more will be answered."""
        waiting = list(self._waiting.values())
        self._waiting.clear()
        for one in waiting:
            one.batch.give_up()

    def _settle(self, number: int, *, is_stored: bool) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return
        if waiting.is_returned:
            answer = Confirmation.UNROUTABLE
        else:
            answer = Confirmation.CONFIRMED if is_stored else Confirmation.REFUSED
        waiting.batch.answer(waiting.index, answer)
