"""Hops: messages on a long delay come by here and are sent on (`policy.hops` decides how).

Every worker of ours consumes the hop queue of all groups, so that one living worker is enough for all that wait.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TypeAlias

import trio
from attrs import define, field

from milvaion_trio.model import headers
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.topology import HOP_QUEUE, HOP_QUEUE_ARGUMENTS
from milvaion_trio.policy.admission import Quarantine
from milvaion_trio.policy.hops import AtHop, SendOn, at_hop, later
from milvaion_trio.ports import Confirmation, Consumer, Deliveries, Delivery, Publisher, Queue, Topology
from milvaion_trio.runtime.consuming import consumed_again
from milvaion_trio.runtime.consumptions import Consumptions
from milvaion_trio.runtime.reporting import Reporter
from milvaion_trio.runtime.runs import Runs
from milvaion_trio.runtime.supervisor import SupervisedLink

__all__ = ["HOP_PREFETCH", "Hops"]

HOP_PREFETCH = 100
"""Deliveries in hand at a time; they leave together, each for a broker's confirm of about 1 ms (RELIABILITY.md 3.2)."""

REFUSED_PAUSE = 1.0
"""Seconds before anything is tried again when the broker takes nothing."""

_log = logging.getLogger("milvaion_trio.runtime")

Onward: TypeAlias = list[tuple[Delivery, SendOn]]
"""Messages in hand, each with what is to be published for it."""


@define(eq=False, kw_only=True)
class Hops:
    """Sends on what waits."""

    consuming: SupervisedLink[Consumer]
    publishing: SupervisedLink[Publisher]
    runs: Runs
    reporter: Reporter
    consumptions: Consumptions
    in_hand: int = field(default=0, init=False)
    """How many messages were taken and not sent on yet."""
    _is_refused: bool = field(default=False, init=False)

    @contextlib.asynccontextmanager
    async def sent_on(self, jobs: trio.Nursery) -> AsyncIterator[None]:
        """Send on what comes by while the context is open; what must be settled otherwise gets a task in `jobs`.

        On leaving, what was not sent on goes back to the hop queue.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.consuming.use, partial(self._pass, jobs))
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()

    async def _pass(self, jobs: trio.Nursery, consumer: Consumer) -> None:
        """Send on what comes over this connection until it is lost (`LinkLost`)."""
        needed = Topology(queues=[Queue(HOP_QUEUE, HOP_QUEUE_ARGUMENTS)])
        async with consumed_again(consumer, HOP_QUEUE, prefetch=HOP_PREFETCH, needed=needed) as deliveries:
            with self.consumptions.noted(HOP_QUEUE, HOP_PREFETCH, deliveries) as consumption:
                while True:
                    batch = await _all_there_is(deliveries)
                    consumption.received += len(batch)
                    self.in_hand = len(batch)
                    try:
                        await self._send_on(batch, consumer, jobs)
                    finally:
                        self.in_hand = 0

    async def _send_on(self, batch: Sequence[Delivery], consumer: Consumer, jobs: trio.Nursery) -> None:
        onward: Onward = []
        for delivery in batch:
            decision = self._decide(delivery)
            if isinstance(decision, SendOn):
                onward.append((delivery, decision))
            else:
                self.runs.answer(decision, delivery, jobs)
        left = onward
        try:
            left = await self.publishing.use(partial(self._publish, left, consumer))
            self._tell_refused(left)
            back = [(delivery, SendOn(later(delivery.message), None)) for delivery, _ in left]
            left = await self.publishing.use(partial(self._publish, back, consumer))
        except BaseException:
            for delivery, _ in left:
                delivery.requeue()
            raise
        for delivery, _ in left:  # the broker takes nothing at all, so these are not lost to a delivery limit
            delivery.requeue()
        if left:
            await trio.sleep(REFUSED_PAUSE)

    def _tell_refused(self, refused: Onward) -> None:
        if refused and not self._is_refused:
            queue = refused[0][0].message.headers.get(headers.DELAY_TARGET)
            _log.error("messages that wait for queue %r cannot be sent on, tried again every 10 s", queue)
        self._is_refused = bool(refused)

    def _decide(self, delivery: Delivery) -> AtHop:
        try:
            return at_hop(delivery.message, ledger=self.runs.ledger, is_concluded=self.runs.outbox.is_concluded)
        except Exception as error:
            # A defect of ours, and one message must not stop the others.
            _log.exception("a message of queue %s could not be judged and is set aside", delivery.queue)
            return Quarantine(f"{type(error).__name__} while the message was judged: {error}")

    async def _publish(self, onward: Onward, consumer: Consumer, publisher: Publisher) -> Onward:
        """Ack what is on its next leg and return what the broker refused.

        What came over a connection that is gone meanwhile comes again, and is left to that.
        Raises `LinkLost`; if cancelled, any part may be on its way. Sent twice it does no harm: the attempt has a key.
        """
        if not onward or self.consuming.current is not consumer:
            return []
        alive = [beat for delivery, decision in onward if (beat := self._alive(delivery, decision)) is not None]
        answers = await publisher.publish([*alive, *(decision.publication for _, decision in onward)])
        refused: Onward = []
        for (delivery, decision), answer in zip(onward, answers[len(alive) :], strict=True):
            if answer is Confirmation.CONFIRMED:
                delivery.ack()
            else:
                refused.append((delivery, decision))
        return refused

    def _alive(self, delivery: Delivery, decision: SendOn) -> Publication | None:
        if decision.alive is None or not self.runs.is_reported(delivery):
            return None
        return self.reporter.waiting(*decision.alive)


async def _all_there_is(deliveries: Deliveries) -> list[Delivery]:
    """At least one delivery, and all others that are here already. If cancelled, none was taken."""
    batch = [await deliveries.receive()]
    while len(batch) < HOP_PREFETCH and (delivery := deliveries.receive_nowait()) is not None:
        batch.append(delivery)
    return batch
