"""How many jobs run at once: per job and per worker, never more, in the order they came."""

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio import JobContext, Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import topology
from milvaion_trio.runtime.dispatch import SLOT_PATIENCE
from milvaion_trio.testing import under_test


@define
class Gauge:
    """Counts who is inside, and remembers the most there ever were."""

    inside: int = 0
    most: int = 0
    order: list[object] = field(factory=list)

    async def spend(self, seconds: float, name: object = None) -> None:
        self.order.append(name)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await trio.sleep(seconds)
        finally:
            self.inside -= 1


async def test_a_job_never_runs_more_often_than_its_limit(worker: Worker, autojump_clock: MockClock) -> None:
    """20 messages, 3 at a time: seven rounds of one second."""
    gauge = Gauge()

    @worker.job(max_parallel=3)
    async def work() -> None:
        await gauge.spend(1)

    async with under_test(worker) as kit:
        for _ in range(20):
            kit.enqueue(work)
        await kit.run_until_idle()

    assert gauge.most == 3
    assert trio.current_time() == 7


async def test_the_worker_never_runs_more_jobs_than_its_limit(autojump_clock: MockClock) -> None:
    """The limit of the worker holds over the sum of all its jobs."""
    worker = Worker(settings=WorkerSettings(worker_id="tests", max_parallel_jobs=4), observers=())
    gauge = Gauge()

    for name in ("a", "b", "c"):

        @worker.job(name)
        async def work() -> None:
            await gauge.spend(1)

    async with under_test(worker) as kit:
        for name in "abc" * 8:
            kit.enqueue(name)
        await kit.run_until_idle()

    assert gauge.most == 4
    assert trio.current_time() == 6


async def test_messages_of_one_queue_start_in_their_order(worker: Worker, autojump_clock: MockClock) -> None:
    """First come, first served."""
    gauge = Gauge()

    @worker.job(max_parallel=1)
    async def work(data: int) -> None:
        await gauge.spend(1, data)

    async with under_test(worker) as kit:
        for number in range(30):
            kit.enqueue(work, number)
        await kit.run_until_idle()

    assert gauge.order == list(range(30))


async def test_waiting_jobs_of_other_queues_get_their_turn(autojump_clock: MockClock) -> None:
    """A queue that is always full does not keep another one from the worker's slots."""
    worker = Worker(settings=WorkerSettings(worker_id="tests", max_parallel_jobs=1), observers=())
    gauge = Gauge()

    @worker.job("busy")
    async def busy() -> None:
        await gauge.spend(1, "busy")

    @worker.job("rare")
    async def rare() -> None:
        await gauge.spend(1, "rare")

    async with under_test(worker) as kit:
        for _ in range(10):
            kit.enqueue(busy)
        kit.enqueue(rare)
        await kit.run_until_idle()

    assert "rare" in gauge.order[:3]


async def test_a_delivery_without_a_slot_goes_back_after_30_seconds(autojump_clock: MockClock) -> None:
    """Another worker may have room; nothing was told about the occurrence (DESIGN.md 5.2)."""
    worker = Worker(settings=WorkerSettings(worker_id="tests", max_parallel_jobs=1), observers=())

    @worker.job("long")
    async def long() -> None:
        await trio.sleep(100)

    @worker.job("short")
    async def short() -> None: ...

    async with under_test(worker) as kit:
        kit.enqueue(long)
        await wait_all_tasks_blocked()
        waiting = kit.enqueue(short)
        await trio.sleep(SLOT_PATIENCE - 1)
        assert (kit.queue(short).unacked, len(kit.queue(short).ready)) == (1, 0)

        await trio.sleep(2)

        assert (kit.queue(short).unacked, len(kit.queue(short).ready)) == (0, 1)
        assert kit.queue(short).consumers == 0
        assert kit.occurrence(waiting).statuses == ()

        await trio.sleep(70)

        assert kit.queue(short).consumers == 1
        assert kit.occurrence(waiting).result == "short finished without a return value"
        assert trio.current_time() == 101


@pytest.mark.parametrize("is_redelivered", [False, True])
async def test_what_went_back_without_a_slot_runs_as_often_as_it_came(
    autojump_clock: MockClock, *, is_redelivered: bool
) -> None:
    """That it goes back from here says nothing; that another worker had it before says what it said."""
    runs: list[int] = []
    broker, settings = EmbeddedBroker(), WorkerSettings(worker_id="tests", max_parallel_jobs=1)

    def worker() -> Worker:
        made = Worker(settings=settings, observers=())

        @made.job("long")
        async def long() -> None:
            await trio.sleep(2 * SLOT_PATIENCE)

        @made.job("short")
        async def short(ctx: JobContext) -> None:
            runs.append(ctx.run_number)

        return made

    async with under_test(worker(), broker=broker) as kit:
        kit.stop()
        await kit.stopped()
        kit.enqueue("long")
        kit.enqueue("short")
    if is_redelivered:  # a worker takes it and dies
        queue = topology.queue_name(topology.routing_pattern("tests", "short"))
        async with broker.consuming() as consumer, consumer.consume(queue, prefetch=1) as deliveries:
            await deliveries.receive()
    async with under_test(worker(), broker=broker) as kit:  # the job that was added first has the slot
        await trio.sleep(SLOT_PATIENCE - 1)
        assert (kit.queue("short").unacked, runs) == (1, [])
        await kit.run_until_idle()

    assert runs == [2 if is_redelivered else 1]


async def test_a_paused_queue_is_consumed_as_soon_as_there_is_a_slot(autojump_clock: MockClock) -> None:
    """Not a poll later."""
    worker = Worker(settings=WorkerSettings(worker_id="tests", max_parallel_jobs=1), observers=())
    started: list[float] = []

    @worker.job("long", timeout=0)
    async def long() -> None:
        await trio.sleep(77.5)

    @worker.job("short")
    async def short() -> None:
        started.append(trio.current_time())

    async with under_test(worker) as kit:
        kit.enqueue(long)
        await wait_all_tasks_blocked()
        kit.enqueue(short)
        await kit.run_until_idle()

    assert started == [77.5]


async def test_a_waiting_delivery_leaves_the_others_of_its_queue_in_order(autojump_clock: MockClock) -> None:
    """What went back is delivered again before what came later."""
    worker = Worker(settings=WorkerSettings(worker_id="tests", max_parallel_jobs=1), observers=())
    gauge = Gauge()

    @worker.job("long", timeout=0)
    async def long() -> None:
        await trio.sleep(100)

    @worker.job("short", max_parallel=1)
    async def short(data: int) -> None:
        await gauge.spend(1, data)

    async with under_test(worker) as kit:
        kit.enqueue(long)
        await wait_all_tasks_blocked()
        for number in range(5):
            kit.enqueue(short, number)
        await kit.run_until_idle()

    assert gauge.order == [0, 1, 2, 3, 4]
