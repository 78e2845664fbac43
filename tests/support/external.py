"""The played API at an embedded broker, as late as a real one: what it has acknowledged it stores a while later."""

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import trio
from attrs import define, field
from tests.support.api_model import ApiModel
from tests.support.api_model.database import Job, Occurrence
from tests.support.api_model.publications import wire_message
from tests.support.api_model.topology import EXTERNAL_OCCURRENCES, EXTERNAL_REGISTRATIONS, REGISTRATIONS

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.external.letters import EXTERNAL_TOPOLOGY
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.topology import FAILED_QUEUE
from milvaion_trio.ports import Consumer
from milvaion_trio.testing.clock import clock_ns

__all__ = ["PlayedApi", "played_api"]

LATE: Final[Mapping[str, float]] = {REGISTRATIONS: 0.3, EXTERNAL_REGISTRATIONS: 1.1, EXTERNAL_OCCURRENCES: 1.1}
"""Seconds between the acknowledgement and the store (WIRE.md 4.7, 4.9)."""


@define(eq=False)
class PlayedApi:
    """What a test sees of it."""

    broker: EmbeddedBroker
    model: ApiModel = field(factory=ApiModel)
    _is_there: trio.Event = field(factory=trio.Event)

    def arrive(self) -> None:
        """Begin to read."""
        self._is_there.set()

    def job(self, external_id: str) -> Job:
        """A job of an external scheduler."""
        return next(job for job in self.model.database.jobs.values() if job.external_id == external_id)

    def runs(self, external_id: str) -> list[Occurrence]:
        """The occurrences of such a job, as they were stored."""
        job_id = self.job(external_id).id
        return [each for each in self.model.database.occurrences.values() if each.job_id == job_id]

    async def settled(self) -> None:
        """Return when all that was published is stored. If cancelled, nothing changes."""
        await trio.sleep(10)

    async def read(self) -> None:
        """Read all queues, over one connection after the other, until cancelled."""
        await self._is_there.wait()
        self.broker.declare_nowait(EXTERNAL_TOPOLOGY)
        while True:
            try:
                await self._read_all()
            except* LinkLost:
                await trio.sleep(0.2)

    async def _read_all(self) -> None:
        async with self.broker.consuming() as consumer, trio.open_nursery() as nursery:
            for queue in EXTERNAL_TOPOLOGY.queues:
                if queue.name != FAILED_QUEUE:
                    nursery.start_soon(self._read, consumer, queue.name, nursery)
            while True:
                await trio.sleep(0.5)
                self.model.tick(_now())

    async def _read(self, consumer: Consumer, queue: str, nursery: trio.Nursery) -> None:
        send, receive = trio.open_memory_channel[tuple[float, Publication]](math.inf)
        nursery.start_soon(self._store, queue, receive)
        async with consumer.consume(queue, prefetch=20) as deliveries:
            while True:
                delivery = await deliveries.receive()
                delivery.ack()
                send.send_nowait((trio.current_time() + LATE.get(queue, 0), Publication(delivery.message, queue)))

    async def _store(self, queue: str, acked: trio.MemoryReceiveChannel[tuple[float, Publication]]) -> None:
        async for due, publication in acked:
            await trio.sleep_until(due)
            self.model.take(queue, wire_message(publication), _now())


def _now() -> float:
    return clock_ns() / 1e9


@asynccontextmanager
async def played_api(broker: EmbeddedBroker, *, is_there: bool = True) -> AsyncIterator[PlayedApi]:
    """One that reads while the context is open, which must have been content when it is left."""
    api = PlayedApi(broker)
    if is_there:
        api.arrive()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(api.read)
        yield api
        nursery.cancel_scope.cancel()
    api.model.assert_content()
