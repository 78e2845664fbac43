"""What a monitor reads: the queues that a Milvaion API reads (WIRE.md 1.2), and a copy of every dispatch.

Separate because the start, the intake and the commands ask for it; the order is the one in which a batch is read, so
that a status finds what was dispatched.
"""

from collections.abc import Collection, Mapping
from typing import Final

from milvaion_trio.model import topology
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.ports import Binding, Consumer, Queue, Topology
from milvaion_trio.runtime.declaration import topology_of

__all__ = ["QUEUES", "TOPOLOGY", "copies", "others", "refusal"]

QUEUES: Final = (
    topology.DISPATCHES_QUEUE,
    topology.EXTERNAL_REGISTRATION_QUEUE,
    topology.EXTERNAL_OCCURRENCE_QUEUE,
    topology.REGISTRATION_QUEUE,
    topology.HEARTBEAT_QUEUE,
    topology.STATUS_QUEUE,
    topology.LOGS_QUEUE,
    topology.FAILED_QUEUE,
)

_OF_WORKERS: Final = topology_of(())

TOPOLOGY: Final = Topology(
    exchanges=_OF_WORKERS.exchanges,
    queues=(
        *_OF_WORKERS.queues,
        Queue(topology.EXTERNAL_REGISTRATION_QUEUE),
        Queue(topology.EXTERNAL_OCCURRENCE_QUEUE),
        Queue(topology.DISPATCHES_QUEUE, topology.DISPATCHES_QUEUE_ARGUMENTS),
    ),
    bindings=_OF_WORKERS.bindings,
)
"""What a worker declares, as either may be there first, and what is read besides."""


def copies(patterns: Collection[str]) -> Topology:
    """What makes a copy of every dispatch that goes by one of these patterns.

    Not of all there are: with a queue that takes everything, a broker says of no message any more that no worker has
    ever asked for it, neither to `enqueue` nor to a Milvaion API.
    """
    bindings = [Binding(topology.JOBS_EXCHANGE, topology.DISPATCHES_QUEUE, pattern) for pattern in sorted(patterns)]
    return Topology(bindings=bindings)


async def others(consumer: Consumer) -> Mapping[str, int]:
    """How many consumers each of the queues has that has any; raises `LinkLost`. If cancelled, nothing changes."""
    states = {queue: await consumer.state(queue) for queue in QUEUES}
    return {queue: state.consumers for queue, state in states.items() if state is not None and state.consumers}


def refusal(found: Mapping[str, int], broker: str) -> SettingsError:
    """Why a monitor does not start beside these."""
    queues = ", ".join(f"{queue} ({count})" for queue, count in found.items())
    who = (
        "Another milvaion-trio monitor runs"
        if topology.DISPATCHES_QUEUE in found
        else "That is a Milvaion API, or another program that reads what workers report"
    )
    return SettingsError(
        [
            f"Somebody reads the queues of {broker} already: {queues}. {who}. A message goes to one reader only, so "
            "each of you would know a part of what happened. Stop the other one, use another virtual host, or start "
            "with --beside-others if that is what you want."
        ]
    )
