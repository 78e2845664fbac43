"""What `check` finds at the servers: whether they answer, and whether what is there is what a worker needs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.broker.ladder import LADDER
from milvaion_trio.cli.findings import Area, Finding, Verdict
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.redis_address import parse_redis_address
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.model.topology import DISPATCHES_QUEUE, QUARANTINE_QUEUE, STATUS_QUEUE
from milvaion_trio.ports import Broker, Exchange, Queue, QueueState, Signals
from milvaion_trio.runtime.declaration import topology_of
from milvaion_trio.runtime.readers import MANY_STATUSES, States, states_of, unread
from milvaion_trio.signals.local import LocalSignals
from milvaion_trio.worker import Worker

if TYPE_CHECKING:  # it brings asyncio along, for those who have RabbitMQ
    from milvaion_trio.broker.rabbitmq import RabbitMQBroker
    from milvaion_trio.broker.rabbitmq.administration import Administration

__all__ = ["look_at_servers"]

PATIENCE = 10.0
"""Seconds for an answer."""
OLDEST = (3, 10)
"""The first RabbitMQ whose quorum queues know a time to live (RELIABILITY.md 3.5)."""
_MISSING = "missing, and made when a worker starts"
_OK, _WARNING, _FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED


async def look_at_servers(worker: Worker) -> list[Finding]:
    """Ask the broker and Redis, both at the same time. If cancelled, nothing changes."""
    at_broker: list[Finding] = []
    at_redis: list[Finding] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_look_at_broker, worker, at_broker)
        nursery.start_soon(_look_at_redis, worker, at_redis)
    return at_broker + at_redis


# --- the broker -----------------------------------------------------------------------------------------------------


async def _look_at_broker(worker: Worker, found: list[Finding]) -> None:
    broker: Broker = worker.broker
    if isinstance(broker, EmbeddedBroker):
        found.append(Finding(Area.BROKER, _OK, "embedded, in the worker's own process: no settings name RabbitMQ"))
        return
    from milvaion_trio.broker.rabbitmq import RabbitMQBroker

    if not isinstance(broker, RabbitMQBroker):
        found.append(Finding(Area.BROKER, _WARNING, f"{broker.name} is given in the code, and was not looked at"))
        return
    with trio.CancelScope() as limit:
        try:
            async with broker.administering() as administration:  # which has a limit of its own, for all hosts
                limit.deadline = trio.current_time() + PATIENCE
                found.append(_server(broker, administration))
                await _look_at_topology(administration, worker, found, limit)
                limit.deadline = trio.current_time() + PATIENCE
                found += _milvaion(await states_of(administration), broker.settings.virtual_host)
                found += _monitor(await administration.state(DISPATCHES_QUEUE), worker.settings)
        except LinkLost as lost:
            found.append(Finding(Area.BROKER, _FAILED, str(lost)))
    if limit.cancelled_caught:
        text = f"{broker.name} let the worker in, and then did not answer for {PATIENCE:g} s: is it well?"
        found.append(Finding(Area.BROKER, _FAILED, text))


def _server(broker: "RabbitMQBroker", administration: "Administration") -> Finding:
    product, version = administration.server
    settings = broker.settings
    # With several hosts, it is one of them that answered.
    where = f"RabbitMQ at {administration.link.endpoint.where}" if settings.further_hosts else broker.name
    who = "this worker" if settings.authentication == "EXTERNAL" else f"user {settings.username!r}"
    said = f"{where} is {product} {version} and lets {who} in"
    if product == "RabbitMQ" and _numbers(version) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return Finding(Area.BROKER, _FAILED, f"{said}; delayed retries need RabbitMQ {oldest} or newer")
    return Finding(Area.BROKER, _OK, said)


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version; larger than all where it begins otherwise."""
    parts = version.split(".")[:2]
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else (1_000_000,)


# --- what it has ----------------------------------------------------------------------------------------------------


async def _look_at_topology(
    administration: "Administration", worker: Worker, found: list[Finding], limit: trio.CancelScope
) -> None:
    """Look at everything; a broker far away takes long for all of it, so the limit begins again with each part."""
    needed = topology_of(worker.registry.jobs)
    parts: list[Exchange | Queue] = [*needed.exchanges, *needed.queues]
    for part in parts:
        limit.deadline = trio.current_time() + PATIENCE
        found.append(await _part(administration, part))
    delays: list[Exchange | Queue] = [*LADDER.exchanges, *LADDER.queues]
    delays = [part for part in delays if part not in parts]
    problems: list[str] = []
    for part in delays:
        limit.deadline = trio.current_time() + PATIENCE
        if (problem := await _problem(administration, part)) is not None:
            problems.append(problem)
    found += [Finding(Area.TOPOLOGY, _FAILED, problem) for problem in problems if problem != _MISSING]
    if (missing := problems.count(_MISSING)) or not problems:
        state = f"{missing} are {_MISSING}" if missing else "as they should be"
        found.append(Finding(Area.TOPOLOGY, _OK, f"the {len(delays)} exchanges and queues for delays: {state}"))


async def _part(administration: "Administration", part: Exchange | Queue) -> Finding:
    what = f"{'exchange' if isinstance(part, Exchange) else 'queue'} {part.name}"
    problem = await _problem(administration, part)
    if problem is not None:
        if problem == _MISSING:
            return Finding(Area.TOPOLOGY, _OK, f"{what}: {problem}")
        return Finding(Area.TOPOLOGY, _FAILED, problem)
    state = await administration.state(part.name) if isinstance(part, Queue) else None
    if state is None:
        return Finding(Area.TOPOLOGY, _OK, f"{what}: as it should be")
    text = f"{what}: as it should be; messages waiting: {state.ready}, consumers: {state.consumers}"
    if part.name == QUARANTINE_QUEUE and state.ready:
        return Finding(Area.TOPOLOGY, _WARNING, f"{text}. They have no usable id, so no job ran for them")
    return Finding(Area.TOPOLOGY, _OK, text)


async def _problem(administration: "Administration", part: Exchange | Queue) -> str | None:
    return await administration.difference(part) if await administration.has(part) else _MISSING


# --- what Milvaion reads --------------------------------------------------------------------------------------------


def _milvaion(states: States, virtual_host: str) -> Iterator[Finding]:
    nobody = unread(states)
    if nobody:
        text = (
            f"nobody reads {', '.join(nobody)}: jobs run, and what is reported about them waits there. Does a Milvaion "
            f"server run on the virtual host {virtual_host!r}?"
        )
        yield Finding(Area.MILVAION, _WARNING, text)
    else:
        yield Finding(Area.MILVAION, _OK, "a server reads all that is reported")
    statuses = states[STATUS_QUEUE]
    if statuses is not None and statuses.ready > MANY_STATUSES:
        text = f"{statuses.ready} statuses wait in {STATUS_QUEUE}; a server reads about 100 a second"
        yield Finding(Area.MILVAION, _WARNING, text)


def _monitor(copies: QueueState | None, settings: WorkerSettings) -> Iterator[Finding]:
    """Only a monitor of ours reads the copies of dispatches."""
    if copies is None or not copies.consumers:
        return
    if settings.reporting.local_occurrences:
        yield Finding(Area.MILVAION, _OK, "a milvaion-trio monitor keeps the history, also of jobs of our own clients")
    else:
        text = (
            "a milvaion-trio monitor keeps the history, and of the jobs of our own clients this worker tells it "
            "nothing: set Worker:Reporting:LocalOccurrences to true"
        )
        yield Finding(Area.MILVAION, _WARNING, text)


# --- Redis ----------------------------------------------------------------------------------------------------------


async def _look_at_redis(worker: Worker, found: list[Finding]) -> None:
    signals: Signals = worker.signals
    settings = worker.settings.redis
    if isinstance(signals, LocalSignals):
        if not isinstance(worker.broker, EmbeddedBroker):
            text = "no settings name Redis (Worker:Redis:ConnectionString is empty): nobody can cancel a job"
            found.append(Finding(Area.REDIS, _WARNING, text))
        return
    where = "the signals given in the code"
    if settings is not None:
        where = f"Redis at {parse_redis_address(settings.connection_string, settings.password)}"
    with trio.move_on_after(PATIENCE) as limit:
        try:
            async with signals.cancellations():
                found.append(Finding(Area.REDIS, _OK, f"{where} lets cancel signals be heard"))
        except LinkLost as lost:
            found.append(Finding(Area.REDIS, _WARNING, f"{lost}. Jobs run without it, and cannot be cancelled"))
    if limit.cancelled_caught:
        text = f"{where} did not answer within {PATIENCE:g} s. Jobs run without it, and cannot be cancelled"
        found.append(Finding(Area.REDIS, _WARNING, text))
