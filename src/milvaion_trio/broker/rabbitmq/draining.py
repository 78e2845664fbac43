"""Moving what waits in the delay queues to where it is bound for, now: for going back to workers without such queues.

At least once, like everything that moves messages: each is acked when its copy has been confirmed, so an interruption
leaves it where it was, or there and at its target. Workers may run meanwhile; what they put back is moved with the rest
or left, and counted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import trio
from attrs import define, evolve, field, frozen

from milvaion_trio.broker.ladder import LADDER
from milvaion_trio.broker.rabbitmq.administration import Administration
from milvaion_trio.broker.rabbitmq.deliveries import RabbitMQDeliveries, RabbitMQDelivery
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.headers import passed_on
from milvaion_trio.policy.hops import onward
from milvaion_trio.ports import Confirmation, Publisher

__all__ = ["Drained", "drain"]

PREFETCH: Final = 500
"""Messages in hand at a time."""
QUIET: Final = 1.0
"""Seconds without a delivery after which somebody else has had it: workers consume the hop queue too."""
CONFIRM_TIMEOUT: Final = 10.0
"""Seconds for the confirms of one batch; under an alarm a broker reads no publishes, and a person waits here."""
PASSES: Final = 3
"""Looks at all queues. While workers run, new messages come for as long as jobs fail, so there must be an end."""
DELIVERY_COUNT: Final = "x-delivery-count"
"""What a quorum queue adds to its deliveries, and what is true of no other queue."""


@frozen(kw_only=True)
class Drained:
    """What became of the messages."""

    moved: Mapping[str, int]
    """How many went to which queue."""
    without_queue: Mapping[str, int]
    """How many are left because their queue does not exist, or the broker refused them; by that queue."""
    without_target: int
    """How many are left because they do not say where they go."""
    waiting: int
    """How many wait now, for whatever reason."""


async def drain(administration: Administration, publisher: Publisher) -> Drained:
    """Move everything that waits; raises `LinkLost`.

    If cancelled, some was moved and the rest waits on; some may be in both places.
    """
    draining = _Draining(administration, publisher)
    for _ in range(PASSES):
        before = draining.seen
        for queue, count in (await draining.waiting()).items():
            await draining.move(queue, count)
        if draining.seen == before:
            break
    draining.give_back()
    staying = draining.stays.total()
    without_target = draining.stays.pop("", 0)
    # What stays has been given back, but the broker may not have counted it yet.
    left = sum((await draining.waiting()).values())
    return Drained(
        moved=draining.moved,
        without_queue=draining.stays,
        without_target=without_target,
        waiting=max(left, staying),
    )


@define(eq=False)
class _Draining:
    administration: Administration
    publisher: Publisher
    moved: Counter[str] = field(factory=Counter, init=False)
    stays: Counter[str] = field(factory=Counter, init=False)
    """By target, "" for none."""
    _held: list[RabbitMQDelivery] = field(factory=list, init=False)
    """What stays, kept until the last pass: given back earlier it would come once more, or, as the broker counts it in
    its own time, be in no pass that looks for it."""

    @property
    def seen(self) -> int:
        """How many messages have been looked at."""
        return self.moved.total() + self.stays.total()

    def give_back(self) -> None:
        """Return what stays to its queues."""
        for delivery in self._held:
            delivery.requeue()
        self._held.clear()

    async def waiting(self) -> dict[str, int]:
        """How many messages wait in which queue, without empty queues. If cancelled, nothing changes."""
        found: dict[str, int] = {}
        for queue in LADDER.queues:
            state = await self.administration.state(queue.name)
            if state is not None and state.ready:
                found[queue.name] = state.ready
        return found

    async def move(self, queue: str, count: int) -> None:
        """Move as many of its messages, from the front, or as many as come. If cancelled, see `drain`."""
        while count > 0:
            prefetch = min(count, PREFETCH)
            full = len(self._held) + prefetch
            async with self.administration.consume(queue, prefetch=prefetch) as deliveries:
                # A consumer that holds as much as it may gets no more; the next one does.
                while count > 0 and len(self._held) < full:
                    batch = await _some(deliveries, count)
                    if not batch:
                        return
                    count -= len(batch)
                    await self._send_on(batch)

    async def _send_on(self, batch: Sequence[RabbitMQDelivery]) -> None:
        """Publish them, ack what was confirmed and hold the rest. If cancelled, see `drain`."""
        movable: list[tuple[RabbitMQDelivery, Publication]] = []
        for delivery in batch:
            publication = _publication(delivery)
            if publication is None:
                self.stays[""] += 1
                self._held.append(delivery)
            else:
                movable.append((delivery, publication))
        with trio.move_on_after(CONFIRM_TIMEOUT) as limit:
            answers = await self.publisher.publish([publication for _, publication in movable])
        if limit.cancelled_caught:
            raise LinkLost(
                f"no confirm within {CONFIRM_TIMEOUT:g} s: is there a memory or disk alarm? The rest waits on"
            )
        for (delivery, publication), answer in zip(movable, answers, strict=True):
            if answer is Confirmation.CONFIRMED:
                delivery.ack()
                self.moved[publication.routing_key] += 1
            else:
                self.stays[publication.routing_key] += 1
                self._held.append(delivery)


async def _some(deliveries: RabbitMQDeliveries, most: int) -> list[RabbitMQDelivery]:
    """The deliveries that are here, or the next one; none when none comes."""
    batch: list[RabbitMQDelivery] = []
    with trio.move_on_after(QUIET):
        batch.append(await deliveries.receive())
    while batch and len(batch) < most and (delivery := deliveries.receive_nowait()) is not None:
        batch.append(delivery)
    return batch


def _publication(delivery: RabbitMQDelivery) -> Publication | None:
    """The message to its last target, without waiting; `None` when it does not name one."""
    key = delivery.routing_key
    if key == topology.HOP_QUEUE or delivery.queue == topology.HOP_QUEUE:
        further = onward(delivery.message)
        if further is None:
            return None
        publication = evolve(further, delay=0.0)
    else:
        publication = Publication(delivery.message, key)
    headers = {name: value for name, value in passed_on(publication.message.headers).items() if name != DELIVERY_COUNT}
    return evolve(publication, message=evolve(publication.message, headers=headers))
