"""A silent stall is found within a minute and healed by a new connection; nothing else is taken for one."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from attrs import define
from tests.support.silent import SilentBroker
from tests.support.workers import story
from trio.testing import MockClock

from milvaion_trio import Worker, WorkerSettings
from milvaion_trio.model.events import LinkDown, ReadinessChanged
from milvaion_trio.model.topology import HOP_QUEUE
from milvaion_trio.ports import Delivery
from milvaion_trio.runtime.consumptions import Consumption
from milvaion_trio.testing import WorkerUnderTest, under_test

QUEUE = "scheduled_jobs_queue.tests.work.wildcard"
MINUTES = 60.0


@pytest.fixture
def worker() -> Worker:
    worker = Worker(settings=WorkerSettings(worker_id="tests", max_parallel_jobs=3), observers=())

    @worker.job("work", max_parallel=2, timeout=0)
    async def work(data: float = 1) -> str:
        await trio.sleep(data)
        return "done"

    return worker


@pytest.fixture
async def kit(worker: Worker) -> AsyncIterator[WorkerUnderTest]:
    """A worker that has just begun to consume: it looks at every quarter of a minute."""
    async with under_test(worker, broker=SilentBroker()) as kit:
        await trio.sleep(1)
        kit.events.clear()
        yield kit


@pytest.fixture
def broker(kit: WorkerUnderTest) -> SilentBroker:
    assert isinstance(kit.broker, SilentBroker)
    return kit.broker


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "milvaion_trio.runtime")
    return caplog


def downs(kit: WorkerUnderTest) -> list[str]:
    return [event.why for event in kit.events if isinstance(event, LinkDown)]


# --- what is one ------------------------------------------------------------------------------------------------------


async def test_a_queue_that_delivers_nothing_although_it_could_costs_a_connection_and_no_run(
    autojump_clock: MockClock, kit: WorkerUnderTest, broker: SilentBroker, log: pytest.LogCaptureFixture
) -> None:
    """At the second look that sees it. What runs meanwhile is recognised when its message comes back."""
    running = kit.enqueue("work", 120)
    await trio.sleep(1)
    broker.silence(QUEUE)
    waiting = kit.enqueue("work")
    await trio.sleep(45)
    assert downs(kit) == [f"queue {QUEUE} delivers nothing: messages wait in it (1), and there is room for them here"]
    assert story(kit, waiting) == ["RUNNING", "COMPLETED"]

    await kit.run_until_idle()

    assert len(downs(kit)) == 1
    assert [word for word in story(kit, running) if word != "heartbeat"] == ["RUNNING", "COMPLETED"]
    assert log.messages == [f"queue {QUEUE} is no longer silent"]


async def test_the_worker_is_not_ready_until_the_queue_delivers_again(
    autojump_clock: MockClock, kit: WorkerUnderTest, broker: SilentBroker
) -> None:
    broker.silence(QUEUE)
    kit.enqueue("work")
    await trio.sleep(30)
    broken = kit.worker.readiness
    await trio.sleep(MINUTES)

    assert not broken.is_ready
    assert f"deliveries of {QUEUE}" in broken.problems
    assert [event.is_ready for event in kit.events if isinstance(event, ReadinessChanged)] == [False, True]
    assert kit.worker.readiness.is_ready


async def test_a_consumer_that_the_broker_does_not_know_is_made_again(
    autojump_clock: MockClock, kit: WorkerUnderTest, broker: SilentBroker
) -> None:
    """Without any message that waits: the next one would."""
    broker.knows_its_consumers = False
    broker.silence(QUEUE)
    await trio.sleep(32)

    assert downs(kit) == [f"queue {QUEUE} delivers nothing: the broker knows no consumer of it"]
    occurrence = kit.enqueue("work")
    await kit.run_until_idle()
    assert story(kit, occurrence) == ["RUNNING", "COMPLETED"]


async def test_a_queue_that_is_not_there_any_more_is_made_again(
    autojump_clock: MockClock, kit: WorkerUnderTest, broker: SilentBroker
) -> None:
    broker.forget(QUEUE)
    await trio.sleep(32)

    assert downs(kit) == [f"queue {QUEUE} delivers nothing: the broker does not know it"]
    occurrence = kit.enqueue("work")
    await kit.run_until_idle()
    assert story(kit, occurrence) == ["RUNNING", "COMPLETED"]


async def test_a_broker_that_answers_no_more_is_given_up(
    autojump_clock: MockClock, kit: WorkerUnderTest, broker: SilentBroker
) -> None:
    """Two questions in a row, an interval each."""
    broker.says_nothing_about |= {QUEUE, HOP_QUEUE}
    await trio.sleep(46)

    (why,) = downs(kit)
    assert why.endswith("delivers nothing: the broker does not say within 15 s what is in it")


async def test_the_hop_queue_is_watched_too(
    autojump_clock: MockClock, kit: WorkerUnderTest, broker: SilentBroker
) -> None:
    """Else long delays would never end."""
    broker.silence(HOP_QUEUE)
    occurrence = kit.enqueue("work", delay=400)
    await trio.sleep(10 * MINUTES)

    assert len(downs(kit)) == 1
    assert story(kit, occurrence)[-1] == "COMPLETED"


async def test_where_a_new_connection_does_not_help_it_is_tried_less_and_less_often(
    autojump_clock: MockClock, kit: WorkerUnderTest, broker: SilentBroker, log: pytest.LogCaptureFixture
) -> None:
    """Each costs redeliveries. Readiness says all the time that something is wrong."""
    broker.stays_silent = True
    broker.silence(QUEUE)
    kit.enqueue("work")
    await trio.sleep(60 * MINUTES)
    tries = len(downs(kit))
    changes = [event.is_ready for event in kit.events if isinstance(event, ReadinessChanged)]

    assert 5 <= tries <= 12
    assert changes == [False]

    broker.stays_silent = False
    await trio.sleep(20 * MINUTES)
    assert log.messages == [f"queue {QUEUE} is no longer silent"]
    assert kit.worker.readiness.is_ready


# --- what is none -----------------------------------------------------------------------------------------------------

Scene = Callable[[WorkerUnderTest, SilentBroker], Awaitable[None]]


async def nothing_to_do(kit: WorkerUnderTest, broker: SilentBroker) -> None:
    await trio.sleep(10 * MINUTES)


async def a_full_prefetch(kit: WorkerUnderTest, broker: SilentBroker) -> None:
    for _ in range(5):
        kit.enqueue("work", 20 * MINUTES)
    await trio.sleep(10 * MINUTES)
    assert len(kit.queue("work").ready) == 3


async def slots_that_other_jobs_have(kit: WorkerUnderTest, broker: SilentBroker) -> None:
    """A delivery waits in vain, and its consumer is left."""
    for _ in range(3):
        kit.enqueue("other", 20 * MINUTES)
    await trio.sleep(1)
    kit.enqueue("work")
    await trio.sleep(10 * MINUTES)
    assert len(kit.queue("work").ready) == 1
    assert kit.queue("work").consumers == 0


async def a_blocked_publisher(kit: WorkerUnderTest, broker: SilentBroker) -> None:
    """Jobs end and cannot be acked, so the prefetch is full."""
    for _ in range(5):
        kit.enqueue("work")
    with broker.blocking("memory"):
        await trio.sleep(10 * MINUTES)
        assert len(kit.queue("work").ready) > 0


async def other_workers_that_take_everything(kit: WorkerUnderTest, broker: SilentBroker) -> None:
    """It is silent, and nothing waits."""
    broker.silence(QUEUE)
    async with broker.consuming() as consumer, consumer.consume(QUEUE, prefetch=10) as deliveries:
        for _ in range(100):
            kit.enqueue("work")
            (await deliveries.receive()).ack()
            await trio.sleep(6)


async def a_queue_that_is_slow(kit: WorkerUnderTest, broker: SilentBroker) -> None:
    """There is room, messages wait at every look, and between two of them one has come."""
    broker.silence(QUEUE)
    for _ in range(70):
        kit.enqueue("work")
    for _ in range(60):
        broker.trickle(QUEUE)
        await trio.sleep(10)
    assert len(kit.queue("work").ready) == 10


async def a_hop_queue_that_is_slow(kit: WorkerUnderTest, broker: SilentBroker) -> None:
    """What comes is sent on before the next look, so that nothing of it is unsettled then."""
    broker.silence(HOP_QUEUE)
    for _ in range(70):
        kit.enqueue("work", delay=30 * MINUTES)
    await trio.sleep(121)
    for _ in range(60):
        broker.trickle(HOP_QUEUE)
        await trio.sleep(10)
    assert len(kit.broker.queue(HOP_QUEUE).ready) > 0


async def a_single_silent_look(kit: WorkerUnderTest, broker: SilentBroker) -> None:
    """A message that has just come may be on its way."""
    broker.silence(QUEUE)
    for _ in range(10):
        kit.enqueue("work")
        await trio.sleep(20)
        broker.trickle(QUEUE)
        await trio.sleep(10)


async def a_broker_that_is_slow_to_answer(kit: WorkerUnderTest, broker: SilentBroker) -> None:
    """Once; at the next look it is quick again."""
    for _ in range(5):
        await trio.sleep(-(trio.current_time() + 1) % 15)  # to a second before a look
        broker.says_nothing_about |= {QUEUE, HOP_QUEUE}
        await trio.sleep(15.5)
        broker.says_nothing_about.clear()
        await trio.sleep(MINUTES)


async def a_delivery_while_the_broker_is_asked(kit: WorkerUnderTest, broker: SilentBroker) -> None:
    """A busy queue: what it is asked takes long, and it delivers all the same."""
    broker.silence(QUEUE)
    for _ in range(3):
        kit.enqueue("work")
    await trio.sleep(28)
    broker.says_nothing_about.add(QUEUE)
    await trio.sleep(10)
    for _ in range(3):
        broker.trickle(QUEUE)
    await trio.sleep(5)
    broker.says_nothing_about.clear()
    await trio.sleep(MINUTES)


SCENES = (
    nothing_to_do,
    a_full_prefetch,
    slots_that_other_jobs_have,
    a_blocked_publisher,
    other_workers_that_take_everything,
    a_queue_that_is_slow,
    a_hop_queue_that_is_slow,
    a_single_silent_look,
    a_broker_that_is_slow_to_answer,
    a_delivery_while_the_broker_is_asked,
)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_no_stall(worker: Worker, scene: Scene, autojump_clock: MockClock) -> None:
    @worker.job("other", max_parallel=3, timeout=0)
    async def other(data: float) -> None:
        await trio.sleep(data)

    broker = SilentBroker()
    async with under_test(worker, broker=broker) as kit:
        await trio.sleep(1)
        await scene(kit, broker)
        told = downs(kit)
        kit.stop()

    assert told == []


async def test_no_stall_while_the_outbox_is_in_trouble(
    worker: Worker, autojump_clock: MockClock, outbox_trouble: Callable[[str], None]
) -> None:
    """Then nothing is consumed, whatever waits."""
    broker = SilentBroker()
    async with under_test(worker, broker=broker) as kit:
        outbox_trouble("the disk is full")
        kit.enqueue("work")
        await trio.sleep(10 * MINUTES)
        assert downs(kit) == []
        outbox_trouble("")


async def test_no_stall_of_a_queue_that_is_left_while_the_broker_is_asked(
    worker: Worker, autojump_clock: MockClock, outbox_trouble: Callable[[str], None]
) -> None:
    broker = SilentBroker()
    async with under_test(worker, broker=broker) as kit:
        await trio.sleep(1)
        broker.silence(QUEUE)
        kit.enqueue("work")
        await trio.sleep(28)
        broker.says_nothing_about.add(QUEUE)
        await trio.sleep(5)
        outbox_trouble("the disk is full")
        await trio.sleep(11.5)
        broker.says_nothing_about.clear()
        outbox_trouble("")
        await kit.run_until_idle()
        assert downs(kit) == []


async def test_a_queue_that_delivers_or_is_full_is_not_asked_about(
    autojump_clock: MockClock, kit: WorkerUnderTest, broker: SilentBroker
) -> None:
    """A busy broker is not asked more than it must be."""
    for _ in range(50):
        kit.enqueue("work", 30)
    await trio.sleep(MINUTES)

    assert HOP_QUEUE in broker.asked
    assert QUEUE not in broker.asked


async def test_a_defect_of_the_watch_costs_no_job(
    autojump_clock: MockClock,
    kit: WorkerUnderTest,
    broker: SilentBroker,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    def fail(queue: str) -> int:
        raise ValueError(queue)

    monkeypatch.setattr(SilentBroker, "phantoms", lambda self, queue: fail(queue))
    await trio.sleep(20)
    occurrence = kit.enqueue("work")
    await kit.run_until_idle()

    assert story(kit, occurrence) == ["RUNNING", "COMPLETED"]
    assert "whether a queue has fallen silent cannot be told" in log.messages


@define
class ManyDeliveries:
    """As many as AMQP allows are not settled."""

    unsettled: int = 65_535

    async def receive(self) -> Delivery:
        return await trio.sleep_forever()

    def receive_nowait(self) -> None:
        return None


def test_a_prefetch_beyond_what_amqp_can_say_leaves_no_room_for_more() -> None:
    assert not Consumption("queue", 100_000, ManyDeliveries()).has_room
    assert Consumption("queue", 100_000, ManyDeliveries(65_534)).has_room
