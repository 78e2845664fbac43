"""`milvaion-trio topology`: what of Milvaion and of us there is at a broker, and how to get rid of what is ours.

Our own exchanges and queues are those of delays, of hops, of quarantined messages and of a monitor's copies; all begin
with `mtrio.`.
"""

import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeAlias

from attrs import evolve, frozen
from cyclopts import Parameter
from rich.text import Text

from milvaion_trio.broker.ladder import LADDER
from milvaion_trio.cli.cluster import Cluster, cluster_of, the_cluster
from milvaion_trio.cli.failures import CommandFailed, ExitCode
from milvaion_trio.cli.interruptible import run_interruptible
from milvaion_trio.cli.options import ConfigOption, SetOption, load, overrides
from milvaion_trio.cli.terminal import QUIET, error_console, output_console, table, write_json, write_line
from milvaion_trio.model.topology import (
    DISPATCHES_QUEUE,
    HOP_QUEUE,
    JOB_QUEUE_ARGUMENTS,
    QUARANTINE_QUEUE,
    queue_name,
    routing_pattern,
)
from milvaion_trio.ports import Queue, QueueState, Topology
from milvaion_trio.runtime.declaration import topology_of

if TYPE_CHECKING:  # it brings asyncio along, which no other command needs
    from milvaion_trio.broker.rabbitmq import RabbitMQBroker
    from milvaion_trio.broker.rabbitmq.administration import Administration
    from milvaion_trio.broker.rabbitmq.draining import Drained

__all__ = ["drain", "drop", "show"]

OptionalWorker: TypeAlias = Annotated[
    str | None,
    Parameter(name="MODULE:WORKER", help="A worker whose settings and jobs are looked at, instead of a settings file."),
]

OURS = (QUARANTINE_QUEUE, DISPATCHES_QUEUE, *(queue.name for queue in LADDER.queues))


def show(
    target: OptionalWorker = None,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object, with numbers as numbers.")] = False,
) -> int:
    """Show the exchanges and queues that a group of workers uses: whether they exist, what waits, who consumes.

    The job queues are those of the worker, or of the jobs in the settings. Nothing is changed.

        milvaion-trio topology show --config appsettings.json
        milvaion-trio topology show app.jobs:worker --json
    """
    cluster, topology = _used(target, config, settings)
    with cluster.own_words():
        found = run_interruptible(partial(_look, _broker(cluster, "show"), topology))
    if json:
        _print_json(cluster, found)
    else:
        _print_tables(cluster, found)
    return ExitCode.DONE


def drain(target: OptionalWorker = None, /, *, config: ConfigOption = None, settings: SetOption = None) -> int:
    """Move every message that waits for a delay to its queue now, also all retries: for going back to .NET workers.

    Stop the workers of milvaion-trio first: while they run, jobs that fail again go back into a delay. It may be
    interrupted and repeated; a message that it was just moving may then run twice.

    Exits with 1 if messages are left.

        milvaion-trio topology drain --config appsettings.json
    """
    cluster, _ = _used(target, config, settings)
    with cluster.own_words():
        drained = run_interruptible(partial(_drain, _broker(cluster, "drain")))
    moved = sum(drained.moved.values())
    write_line(f"moved {_messages(moved)}{'' if not drained.moved else ':'}")
    for queue, count in sorted(drained.moved.items()):
        write_line(f"{count} to {queue}")
    left = list(_left(drained))
    if left:
        raise CommandFailed("\n".join(left))
    return ExitCode.DONE


def drop(
    target: OptionalWorker = None,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    yes: Annotated[bool, Parameter(negative="", help="Delete; without it this only says what would be done.")] = False,
) -> int:
    """Delete our own exchanges and queues, those that begin with mtrio., if nothing is in them and nobody uses them.

    Milvaion's are left alone. A worker of milvaion-trio that starts makes ours again.

    One kind of message cannot be seen from here: one whose delay is over and whose own queue does not exist any more.
    RabbitMQ keeps it in its delay queue and counts it in `rabbitmqctl list_queues name messages` only.

        milvaion-trio topology drop --config appsettings.json
        milvaion-trio topology drop --config appsettings.json --yes
    """
    cluster, _ = _used(target, config, settings)
    with cluster.own_words():
        deleted = run_interruptible(partial(_drop, _broker(cluster, "drop"), yes=yes))
    if not yes:
        vhost = shlex.quote(cluster.rabbitmq.virtual_host)
        write_line(f"nothing stands in the way of deleting {deleted} exchanges and queues")
        error_console().print(
            f"Look first whether all of them count 0: rabbitmqctl list_queues -p {vhost} name messages\n"
            "What counts more waits for a queue that was deleted, and would be lost. Then add --yes."
        )
        return ExitCode.DONE
    write_line(f"deleted {deleted} exchanges and queues")
    return ExitCode.DONE


def _used(target: str | None, config: ConfigOption, given: SetOption) -> tuple[Cluster, Topology]:
    """The cluster, and what the worker uses there, or the workers with the jobs that the settings name."""
    if target is not None:
        worker = load(target, config, overrides(given))
        worker.prepare()
        return cluster_of(target, worker), topology_of(worker.registry.jobs)
    cluster = the_cluster(config, overrides(given))
    settings = cluster.settings
    queues = [
        Queue(queue_name(pattern), JOB_QUEUE_ARGUMENTS)
        for name, job in settings.jobs.items()
        for pattern in (job.routing_patterns or (routing_pattern(settings.worker_id, name),))[:1]
    ]
    topology = topology_of(())
    return cluster, evolve(topology, queues=(*topology.queues, *queues))


def _broker(cluster: Cluster, purpose: str) -> "RabbitMQBroker":
    from milvaion_trio.broker.rabbitmq import RabbitMQBroker

    return RabbitMQBroker(cluster.rabbitmq, client_name=f"milvaion-trio topology {purpose}")


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


# --- looking --------------------------------------------------------------------------------------------------------


@frozen
class _Found:
    exchanges: dict[str, bool]
    queues: dict[str, QueueState | None]


async def _look(broker: "RabbitMQBroker", topology: Topology) -> _Found:
    names = dict.fromkeys((*(queue.name for queue in topology.queues), *OURS))
    async with broker.administering() as administration:
        exchanges = {
            exchange.name: await administration.has(exchange) for exchange in (*topology.exchanges, *LADDER.exchanges)
        }
        return _Found(exchanges, {name: await administration.state(name) for name in names})


def _print_json(cluster: Cluster, found: _Found) -> None:
    facts = {
        "host": cluster.rabbitmq.host,
        "port": cluster.rabbitmq.port,
        "virtual_host": cluster.rabbitmq.virtual_host,
        "exchanges": [{"name": name, "exists": exists} for name, exists in found.exchanges.items()],
        "queues": [
            {
                "name": name,
                "exists": state is not None,
                "ready": None if state is None else state.ready,
                "consumers": None if state is None else state.consumers,
            }
            for name, state in found.queues.items()
        ],
    }
    write_json(facts)


def _print_tables(cluster: Cluster, found: _Found) -> None:
    console = output_console()
    queues = table("Queue", "Waiting", "Consumers")
    for name, state in found.queues.items():
        if state is None:
            queues.add_row(name, Text("missing", style=QUIET), "")
        else:
            queues.add_row(name, str(state.ready), str(state.consumers))
    exchanges = table("Exchange", "")
    for name, exists in found.exchanges.items():
        exchanges.add_row(name, "" if exists else Text("missing", style=QUIET))
    console.print(queues)
    console.print()
    console.print(exchanges)
    error_console().print(f"Seen at {cluster.name}.")


# --- draining -------------------------------------------------------------------------------------------------------


async def _drain(broker: "RabbitMQBroker") -> "Drained":
    from milvaion_trio.broker.rabbitmq import draining

    async with broker.publishing() as publisher, broker.administering() as administration:
        return await draining.drain(administration, publisher)


def _left(drained: "Drained") -> Iterator[str]:
    for queue, count in sorted(drained.without_queue.items()):
        yield f"{_messages(count)} for {queue} could not be moved: there is no such queue, or the broker refused them"
    if drained.without_target:
        yield f"{_messages(drained.without_target)} in {HOP_QUEUE} do not say where they go"
    others = drained.waiting - sum(drained.without_queue.values()) - drained.without_target
    if others > 0:
        yield f"{_messages(others)} came meanwhile; stop the workers of milvaion-trio and drain again"


# --- dropping -------------------------------------------------------------------------------------------------------


async def _drop(broker: "RabbitMQBroker", *, yes: bool) -> int:
    """Delete all or nothing, as far as a broker that others use lets one; returns how many. If cancelled, some are.

    Without `yes`, only say how many there are, if nothing is in the way.
    """
    async with broker.administering() as administration:
        existing = [queue for queue in OURS if await administration.state(queue) is not None]
        exchanges = [exchange for exchange in LADDER.exchanges if await administration.has(exchange)]
        _refuse([line for queue in existing for line in await _in_the_way(administration, queue)], "Nothing")
        if not yes:
            return len(existing) + len(exchanges)
        # Exchanges first, so that nothing comes into their queues any more.
        left = [
            f"{exchange.name} is used by somebody else: {why}"
            for exchange in exchanges
            if (why := await administration.delete_exchange(exchange.name, exchange.name)) is not None
        ]
        for queue in existing:
            came = await _in_the_way(administration, queue)
            left += came
            if not came:
                await administration.delete_queue(queue)
    _refuse(left, "Not everything")
    return len(existing) + len(exchanges)


async def _in_the_way(administration: "Administration", queue: str) -> list[str]:
    """Why this queue should stay."""
    state = await administration.state(queue)
    if state is None:
        return []
    lines: list[str] = []
    if state.consumers:
        consumers = "1 consumer" if state.consumers == 1 else f"{state.consumers} consumers"
        who = "monitor" if queue == DISPATCHES_QUEUE else "workers"
        lines.append(f"{queue} has {consumers}: stop the {who} of milvaion-trio")
    if state.ready and queue == QUARANTINE_QUEUE:
        lines.append(f"{queue} holds {_messages(state.ready)} for you to look at; they end by themselves in two weeks")
    elif state.ready and queue != DISPATCHES_QUEUE:  # of which nobody needs the copies that are left
        lines.append(f"{queue} holds {_messages(state.ready)}: milvaion-trio topology drain moves them to their queues")
    return lines


def _refuse(lines: Sequence[str], how_much: str) -> None:
    if lines:
        raise CommandFailed("\n".join([f"{how_much} was deleted:", *lines]))
