"""Consuming a queue again after a lost connection, when somebody has taken it away or forbidden it meanwhile.

Separate because every consumer of a serving worker needs it: one queue must not end the jobs of the others.
"""

import contextlib
import logging
from collections.abc import AsyncIterator

import trio

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.ports import Consumer, Deliveries, Topology

__all__ = ["consumed_again"]

REFUSED_PAUSE = 10.0
"""Seconds until a queue is tried again: a person has to put it right."""

_log = logging.getLogger("milvaion_trio.runtime")


@contextlib.asynccontextmanager
async def consumed_again(
    consumer: Consumer, queue: str, *, prefetch: int, needed: Topology
) -> AsyncIterator[Deliveries]:
    """`consumer.consume`, tried until the broker lets it; before each further try the topology is declared again.

    Raises `LinkLost`. If cancelled, nothing is consumed.
    """
    has_told = False
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                deliveries = await stack.enter_async_context(consumer.consume(queue, prefetch=prefetch))
                break
            except SettingsError as error:
                if not has_told:
                    _log.error("no messages are taken, tried again every %g s: %s", REFUSED_PAUSE, error.problems[0])
                    has_told = True
            await trio.sleep(REFUSED_PAUSE)
            with contextlib.suppress(SettingsError):  # consuming says it again
                await consumer.declare(needed)
        if has_told:
            _log.info("messages of %s are taken again", queue)
        yield deliveries
