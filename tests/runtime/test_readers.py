"""The worker says when nobody reads what it reports, or not fast enough, once per change (DESIGN.md 7)."""

import logging
from pathlib import Path

import pytest
import trio
from tests.support.virtual import virtual

from milvaion_trio import Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import topology
from milvaion_trio.model.settings import RabbitMQSettings
from milvaion_trio.ports import Consumer, QueueState
from milvaion_trio.runtime.declaration import REPORT_QUEUES
from milvaion_trio.runtime.readers import MANY_STATUSES, Readers

UNREAD = f"nobody reads {', '.join(REPORT_QUEUES)}: is there no Milvaion server on this virtual host?"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These workers have RabbitMQ's settings, and with them an outbox on disk, where they are started."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "milvaion_trio.runtime")
    return caplog


def sentences(told: pytest.LogCaptureFixture) -> list[str]:
    """The beginnings of what was logged since the last time, with their levels."""
    found = [f"{record.levelname} {record.getMessage()}" for record in told.records]
    told.clear()
    return found


async def read_all(broker: EmbeddedBroker, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """A Milvaion server that reads everything, as fast as it comes."""

    async def read(queue: str, consumer: Consumer, task_status: trio.TaskStatus[None]) -> None:
        async with consumer.consume(queue, prefetch=10) as deliveries:
            task_status.started()
            while True:
                (await deliveries.receive()).ack()

    async with broker.consuming() as consumer, trio.open_nursery() as nursery:
        for queue in REPORT_QUEUES:
            await nursery.start(read, queue, consumer)
        task_status.started()


def serving_worker(*, settings: WorkerSettings) -> Worker:
    return Worker("tests", settings=settings, broker=EmbeddedBroker(), observers=())


def test_nobody_reading_is_told_at_the_start_and_then_only_when_it_changes(told: pytest.LogCaptureFixture) -> None:
    """Looked at when the worker registers: at the start and every 120 s."""

    async def main() -> None:
        worker = serving_worker(settings=WorkerSettings(worker_id="tests", rabbitmq=RabbitMQSettings()))
        assert isinstance(worker.broker, EmbeddedBroker)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.serve)
            await trio.sleep(1)
            (warning,) = sentences(told)
            assert warning.startswith(f"WARNING {UNREAD}")
            await trio.sleep(600)
            assert sentences(told) == []

            async with trio.open_nursery() as api:
                await api.start(read_all, worker.broker)
                await trio.sleep(120)
                assert sentences(told) == ["INFO all that is reported is read again"]
                await trio.sleep(600)
                api.cancel_scope.cancel()
            assert sentences(told) == []

            await trio.sleep(120)
            (again,) = sentences(told)
            assert again.startswith(f"WARNING {UNREAD}")
            worker.drain()

    virtual(main)


def test_without_rabbitmq_nobody_is_expected_to_read(told: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        worker = serving_worker(settings=WorkerSettings())
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.serve)
            await trio.sleep(1000)
            worker.drain()

    virtual(main)

    assert sentences(told) == []


def test_a_single_queue_without_reader_is_named(told: pytest.LogCaptureFixture) -> None:
    states = dict.fromkeys(REPORT_QUEUES, QueueState(0, 1))
    readers = watching()

    readers.judge({**states, topology.LOGS_QUEUE: QueueState(3, 0)})
    readers.judge({**states, topology.LOGS_QUEUE: QueueState(3, 0), topology.FAILED_QUEUE: None})

    first, second = sentences(told)
    assert first.startswith(f"WARNING nobody reads {topology.LOGS_QUEUE}: ")
    assert second.startswith(f"WARNING nobody reads {topology.LOGS_QUEUE}, {topology.FAILED_QUEUE}: ")


def test_a_status_queue_that_grows_is_told_once_and_so_is_its_end(told: pytest.LogCaptureFixture) -> None:
    """Many that wait are no trouble while they become less: a server was away and catches up (WIRE.md 4.3)."""
    readers = watching()

    def look(ready: int, consumers: int = 1) -> list[str]:
        states = dict.fromkeys(REPORT_QUEUES, QueueState(0, 1))
        readers.judge({**states, topology.STATUS_QUEUE: QueueState(ready, consumers)})
        return [sentence.partition(":")[0] for sentence in sentences(told)]

    assert look(MANY_STATUSES * 9) == []  # nothing to compare with yet
    assert look(MANY_STATUSES * 5) == []
    assert look(MANY_STATUSES) == []
    assert look(MANY_STATUSES + 1) == ["WARNING the Milvaion server does not keep up"]
    assert look(MANY_STATUSES * 3) == []
    assert look(MANY_STATUSES * 2) == []
    assert look(MANY_STATUSES * 4) == []
    assert look(MANY_STATUSES) == ["INFO the Milvaion server keeps up again"]


def test_a_status_queue_that_nobody_reads_is_not_said_to_be_read_slowly(told: pytest.LogCaptureFixture) -> None:
    """There is no server that could keep up, which one sentence says already."""
    readers = watching()
    states = dict.fromkeys(REPORT_QUEUES, QueueState(0, 1))

    for ready in (1, MANY_STATUSES + 1, MANY_STATUSES * 2):
        readers.judge({**states, topology.STATUS_QUEUE: QueueState(ready, 0)})

    (warning,) = sentences(told)
    assert warning.startswith(f"WARNING nobody reads {topology.STATUS_QUEUE}: ")


def test_what_cannot_be_told_ends_nothing(told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """No job depends on it, so not even a defect in it may end the worker."""

    def fail(self: Readers, states: object) -> None:
        raise ZeroDivisionError

    async def main() -> str:
        worker = serving_worker(settings=WorkerSettings(worker_id="tests", rabbitmq=RabbitMQSettings()))
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.serve)
            await trio.sleep(300)
            worker.drain()
        return "left when it was told to"

    monkeypatch.setattr(Readers, "judge", fail)

    assert virtual(main) == "left when it was told to"
    assert [record.levelname for record in told.records] == ["ERROR"] * 3


def watching() -> Readers:
    return Readers(consuming=None)  # type: ignore[arg-type] # `judge` looks at nothing by itself
