"""Hops: messages on a long delay come by here and are sent on (`policy.hops` decides how).

Every worker of ours consumes the hop queue of all groups, so that one living worker is enough for all that wait.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial

import trio
from attrs import define, field

from milvaion_trio.model import headers
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.topology import HOP_QUEUE
from milvaion_trio.policy.admission import Quarantine
from milvaion_trio.policy.hops import AtHop, SendOn, at_hop
from milvaion_trio.ports import Confirmation, Consumer, Deliveries, Delivery, Publisher
from milvaion_trio.runtime.reporting import Reporter
from milvaion_trio.runtime.runs import Runs
from milvaion_trio.runtime.supervisor import SupervisedLink

__all__ = ["HOP_PREFETCH", "Hops"]

HOP_PREFETCH = 100
"""Deliveries in hand at a time; they leave together, each for a broker's confirm of about 1 ms (RELIABILITY.md 3.2)."""

REFUSED_PAUSE = 1.0
"""Seconds before a message that the broker refused to take on its next leg is tried again."""

_log = logging.getLogger("milvaion_trio.runtime")


@define(eq=False, kw_only=True)
class Hops:
    """Sends on what waits."""

    consuming: SupervisedLink[Consumer]
    publishing: SupervisedLink[Publisher]
    runs: Runs
    reporter: Reporter
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
        async with consumer.consume(HOP_QUEUE, prefetch=HOP_PREFETCH) as deliveries:
            while True:
                batch = await _all_there_is(deliveries)
                self.in_hand = len(batch)
                try:
                    await self._send_on(batch, jobs)
                finally:
                    self.in_hand = 0

    async def _send_on(self, batch: Sequence[Delivery], jobs: trio.Nursery) -> None:
        onward: list[tuple[Delivery, SendOn]] = []
        for delivery in batch:
            decision = self._decide(delivery)
            if isinstance(decision, SendOn):
                onward.append((delivery, decision))
            else:
                self.runs.answer(decision, delivery, jobs)
        try:
            refused = await self.publishing.use(partial(self._publish, onward))
        except BaseException:
            for delivery, _ in onward:
                delivery.requeue()
            raise
        if refused:
            if not self._is_refused:
                queue = refused[0].message.headers.get(headers.DELAY_TARGET)
                _log.error("messages that wait for queue %r cannot be sent on, tried again every second", queue)
            await trio.sleep(REFUSED_PAUSE)
            for delivery in refused:
                delivery.requeue()
        self._is_refused = bool(refused)

    def _decide(self, delivery: Delivery) -> AtHop:
        try:
            return at_hop(delivery.message, ledger=self.runs.ledger, is_concluded=self.runs.outbox.is_concluded)
        except Exception as error:
            # A defect of ours, and one message must not stop the others.
            _log.exception("a message of queue %s could not be judged and is set aside", delivery.queue)
            return Quarantine(f"{type(error).__name__} while the message was judged: {error}")

    async def _publish(self, onward: Sequence[tuple[Delivery, SendOn]], publisher: Publisher) -> list[Delivery]:
        """Ack what is on its next leg and return what the broker refused.

        Raises `LinkLost`; if cancelled, any part may be on its way. Sent twice it does no harm: the attempt has a key.
        """
        alive = [beat for delivery, decision in onward if (beat := self._alive(delivery, decision)) is not None]
        answers = await publisher.publish([*alive, *(decision.publication for _, decision in onward)])
        refused: list[Delivery] = []
        for (delivery, _), answer in zip(onward, answers[len(alive) :], strict=True):
            if answer is Confirmation.CONFIRMED:
                delivery.ack()
            else:
                refused.append(delivery)
        return refused

    def _alive(self, delivery: Delivery, decision: SendOn) -> Publication | None:
        if decision.alive is None or not (
            self.runs.report_local or not headers.has_local_origin(delivery.message.headers)
        ):
            return None
        return self.reporter.waiting(*decision.alive)


async def _all_there_is(deliveries: Deliveries) -> list[Delivery]:
    """At least one delivery, and all others that are here already. If cancelled, none was taken."""
    batch = [await deliveries.receive()]
    while len(batch) < HOP_PREFETCH and (delivery := deliveries.receive_nowait()) is not None:
        batch.append(delivery)
    return batch
