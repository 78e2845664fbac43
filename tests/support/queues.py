"""What is left in a worker's queues, seen by the plain client."""

from collections.abc import Iterable

from tests.support.amqp import Channel

from milvaion_trio.broker.ladder import LADDER
from milvaion_trio.model.topology import QUARANTINE_QUEUE

__all__ = ["OWN_QUEUES", "left_in"]

OWN_QUEUES = (QUARANTINE_QUEUE, *(queue.name for queue in LADDER.queues))
"""Those that are not Milvaion's: set aside, waiting, on a long delay."""


async def left_in(client: Channel, queues: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Of these queues and our own those that hold messages or have consumers, with how many.

    Once a worker has left, what it did not ack is among them. If cancelled, nothing changes.
    """
    states = {name: await client.declare_queue(name, passive=True) for name in (*queues, *OWN_QUEUES)}
    return {name: state for name, state in states.items() if state != (0, 0)}
