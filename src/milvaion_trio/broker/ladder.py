"""Delays as queues: which rung a delayed message waits on, and where it goes from there.

Pure, and the same for every transport to RabbitMQ; what happens to a message between two rungs is `policy.hops`.
A classic queue per delay loses messages when the broker dies (47 % in the test), quorum queues with at-least-once
dead-lettering none (RELIABILITY.md 0.1, 3.2, 3.3).
"""

import math
from collections.abc import Mapping
from typing import Final

from attrs import evolve

from milvaion_trio.model.envelope import HeaderValue, Publication
from milvaion_trio.model.headers import DELAY_LEFT, DELAY_TARGET, passed_on
from milvaion_trio.model.topology import HOP_QUEUE, HOP_QUEUE_ARGUMENTS
from milvaion_trio.policy.hops import LONGEST_LEG, hop
from milvaion_trio.ports import Binding, Exchange, Queue, Topology

__all__ = ["LADDER", "RUNGS", "first_rung", "rung_name", "rungs"]

RUNGS: Final = (LONGEST_LEG, 60, 20, 10, 5, 2, 1)
"""Seconds."""

MOST_LEFT: Final = 2**31 - 1
"""Seconds: what an int32 header holds, 68 years."""


def rung_name(seconds: int) -> str:
    """The name of a rung's exchange and queue, e.g. `mtrio.delay.v1.005s`."""
    return f"mtrio.delay.v1.{seconds:03}s"


LADDER: Final = Topology(
    exchanges=tuple(Exchange(rung_name(seconds), "fanout") for seconds in RUNGS),
    queues=(
        *(
            Queue(
                rung_name(seconds),
                {
                    "x-queue-type": "quorum",
                    "x-message-ttl": seconds * 1000,
                    # The default exchange, and no key: the message's own key, which is the queue it goes to next.
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-strategy": "at-least-once",
                    "x-overflow": "reject-publish",  # at-least-once is not to be had without it
                },
            )
            for seconds in RUNGS
        ),
        Queue(HOP_QUEUE, HOP_QUEUE_ARGUMENTS),
    ),
    bindings=tuple(Binding(rung_name(seconds), rung_name(seconds), "") for seconds in RUNGS),
)
"""Seven rungs and the queue of those that have further to go."""


def rungs(delay: float) -> tuple[int, ...]:
    """The waits that make up a delay, longest first; parts of a second are rounded up."""
    left = math.ceil(delay)
    found: list[int] = []
    for seconds in RUNGS:
        count, left = divmod(max(left, 0), seconds)
        found += [seconds] * count
    return tuple(found)


def first_rung(publication: Publication) -> Publication:
    """What to publish in place of a delayed publication; one without a delay stays as it is."""
    if publication.delay <= 0:
        return publication
    total = math.ceil(publication.delay)
    rung = next(seconds for seconds in RUNGS if seconds <= total)
    kept = passed_on if publication.routing_key == HOP_QUEUE else _without_journey
    message = evolve(publication.message, headers=kept(publication.message.headers))
    onward = Publication(message, publication.routing_key)
    if total > rung:
        onward = hop(message, publication.routing_key, min(total - rung, MOST_LEFT))
    return evolve(onward, exchange=rung_name(rung))


def _without_journey(headers: Mapping[str, HeaderValue]) -> dict[str, HeaderValue]:
    """The headers without what waiting added, and without what the broker would act on."""
    kept = passed_on(headers)
    kept.pop(DELAY_LEFT, None)
    kept.pop(DELAY_TARGET, None)
    return kept
