"""Whether a serving worker has anything left to do, for `run --burst` and whoever waits for the end of all work.

Separate because it asks every part and belongs to none.
"""

from collections.abc import Callable

import trio

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.runtime.serve import House

__all__ = ["until_idle"]

IDLE_POLL = 0.05
"""Seconds between two looks at the queues' depths: a broker answers thousands of these a second."""


async def until_idle(serving: Callable[[], House | None]) -> None:
    """Return when nothing is left to do, seen twice, or the worker serves no more. If cancelled, nothing changes."""
    seen = -1
    while (house := serving()) is not None:
        # Before the broker is asked: what a run puts off is noted before it is settled, and so known in `_waiting`.
        is_settled = house.runs.is_settled
        waiting = await _waiting(house)
        received = house.dispatcher.received
        # A delivery may be on its way between the two looks, so the same must be seen twice.
        if waiting == 0 and is_settled and received == seen:
            with trio.move_on_after(IDLE_POLL):
                await house.outbox.drained()
                return
        seen = received
        await trio.sleep(IDLE_POLL)


async def _waiting(house: House) -> int | None:
    """How many messages wait in queues, in delays, or here for a slot; `None` while nobody can tell.

    Of those in delays, what a broker tells of, or what this process put off: delays are shared with other groups, whose
    retries would keep it for as long as they wait.
    """
    consumer = house.consuming.current
    if consumer is None:
        return None
    try:
        may_wait = house.runs.put_off.may_come
        depths = [await consumer.depth(job.queue, may_wait=may_wait) for job in house.dispatcher.registry.jobs]
        return house.dispatcher.waiting + house.hops.in_hand + sum(depths)
    except LinkLost:
        return None
