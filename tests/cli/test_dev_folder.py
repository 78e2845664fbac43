"""What `dev` opens in its folder when it starts after one that was killed there."""

from pathlib import Path

import pytest
import trio
from attrs import evolve
from tests.support.monitored import Wire

from milvaion_trio import Worker
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.cli.dev_data import keep_in, kept
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.occurrence import OccurrenceStatus as S
from milvaion_trio.monitor.queues import TOPOLOGY, copies
from milvaion_trio.ports import Confirmation
from milvaion_trio.ports.coordination import LEADER, Coordination

TICK = 1_893_456_000_001


@pytest.fixture
def worker() -> Worker:
    worker = Worker("tests", observers=())
    worker.settings = evolve(worker.settings, monitor=evolve(worker.settings.monitor, batch_interval=0.01))
    return worker


def coordination_of(worker: Worker) -> Coordination:
    assert worker.coordination is not None
    return worker.coordination


async def test_the_leases_of_one_that_was_killed_are_free(worker: Worker, tmp_path: Path) -> None:
    """Else its schedules would rest until they run out, and so would a job that it was in the midst of."""
    keep_in(worker, tmp_path)
    leases = coordination_of(worker).leases
    async with coordination_of(worker).open():
        for name in (LEADER, "exclusive:books"):
            assert await leases.acquire(name, "the killed one", 1000) is not None

    async with kept(worker):
        held = [await leases.acquire(name, "this one", 1000) for name in (LEADER, "exclusive:books")]

    assert None not in held


async def test_the_end_of_a_scheduled_run_of_one_that_was_killed_is_told(worker: Worker, tmp_path: Path) -> None:
    """It had reported the end and not told the schedule yet, which would wait for this run."""
    broker = keep_in(Worker("tests", observers=()), tmp_path)
    memory, said = EmbeddedBroker(), list[Publication]()
    memory.on_publish.append(said.append)
    wire = Wire(memory)
    wire.dispatched(x_mtrio_schedule="nightly", x_mtrio_tick=str(TICK))
    wire.told(S.COMPLETED, start=0, end=2)
    async with broker.open(), broker.consuming() as consumer, broker.publishing() as publisher:
        await consumer.declare(TOPOLOGY)
        await consumer.declare(copies(["w.work.*"]))
        assert set(await publisher.publish(said)) == {Confirmation.CONFIRMED}

    keep_in(worker, tmp_path)
    book = coordination_of(worker).book
    async with kept(worker):
        with trio.fail_after(10):
            while not await book.has_ended("nightly", TICK):  # noqa: ASYNC110  # a book tells nobody
                await trio.sleep(0.01)
