"""Messages that nobody can read: kept in `mtrio.quarantine.v1` for a person to look at, two weeks long.

A Milvaion API drops them. Separate because it takes a publishing connection, and because whatever happens to that must
not keep the monitor from reading on.
"""

import logging
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Final

import trio
from attrs import define, evolve, field

from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.ports import Confirmation, Delivery, Publisher
from milvaion_trio.runtime.supervisor import SupervisedLink

__all__ = ["SetAside"]

ROOM: Final = 1000
"""Messages that may wait to be set aside; more are dropped, as a Milvaion API drops all of them."""
PAUSE: Final = 1.0
"""Seconds until the next try with what the broker refused."""
TOLD: Final = 10.0
"""Seconds between two log lines: a program that writes nonsense writes much of it."""

_log = logging.getLogger("milvaion_trio.monitor")


@define(eq=False)
class SetAside:
    """Takes deliveries without waiting, and acks each when its copy is confirmed."""

    _publishing: SupervisedLink[Publisher]
    set_aside: int = field(default=0, init=False)
    """How many are in quarantine."""
    dropped: int = field(default=0, init=False)
    """How many are gone."""
    _waiting: list[tuple[Delivery, str]] = field(factory=list, init=False)
    _came: trio.Event = field(factory=trio.Event, init=False)
    _told: float | None = field(default=None, init=False)
    _untold: int = field(default=0, init=False)

    def take(self, delivery: Delivery, why: str) -> None:
        """Set it aside, because of this; a copy of a dispatch is dropped, as its worker sets the message aside."""
        self._tell(delivery, why)
        if delivery.queue == topology.DISPATCHES_QUEUE or len(self._waiting) >= ROOM:
            self._drop(delivery)
        else:
            self._waiting.append((delivery, why))
            self._came.set()

    def forget(self) -> None:
        """The connection they came by is lost, and nobody flushes any more: they come again."""
        self._waiting.clear()

    async def run(self) -> None:
        """Set aside what comes. If cancelled, what is not confirmed goes back to its queue."""
        while True:
            while not self._waiting:
                self._came = trio.Event()
                await self._came.wait()
            await self.flush()

    async def flush(self) -> None:
        """Set aside what waits now. If cancelled, as `run`."""
        while self._waiting:
            taken = tuple(self._waiting)
            answers = await self._publishing.use(partial(_publish, taken))
            refused = [each for each, answer in zip(taken, answers, strict=True) if answer is Confirmation.REFUSED]
            self._waiting[: len(taken)] = refused
            for (delivery, _), answer in zip(taken, answers, strict=True):
                if answer is Confirmation.CONFIRMED:
                    self.set_aside += 1
                    delivery.ack()
                elif answer is Confirmation.UNROUTABLE:
                    self._drop(delivery)
            if refused:  # a disk that fails, a queue that is full: it may pass
                await trio.sleep(PAUSE)

    def _drop(self, delivery: Delivery) -> None:
        self.dropped += 1
        delivery.ack()

    def _tell(self, delivery: Delivery, why: str) -> None:
        self._untold += 1
        now = trio.current_time()
        if self._told is None or now - self._told >= TOLD:
            more = f", and {self._untold - 1} more before it" if self._untold > 1 else ""
            _log.error(
                "message %r of %s cannot be used%s: %s (set aside in %s: %d, dropped: %d)",
                delivery.message.message_id,
                delivery.queue,
                more,
                why,
                topology.QUARANTINE_QUEUE,
                self.set_aside,
                self.dropped,
            )
            self._told, self._untold = now, 0


async def _publish(taken: Sequence[tuple[Delivery, str]], publisher: Publisher) -> Sequence[Confirmation]:
    return await publisher.publish([_copy(delivery, why) for delivery, why in taken])


def _copy(delivery: Delivery, why: str) -> Publication:
    """The message with a word of what is wrong with it."""
    message = evolve(
        delivery.message,
        headers={
            **headers.passed_on(delivery.message.headers),
            headers.PROBLEM: why[:1000],
            headers.FOUND_IN: delivery.queue,
        },
        persistent=True,
        message_id=delivery.message.message_id or str(uuid.uuid4()),
    )
    return Publication(message, topology.QUARANTINE_QUEUE)
