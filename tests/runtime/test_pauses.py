"""An outbox in trouble: no job is started that it cannot keep, other workers get the messages, and all resumes."""

from collections.abc import Callable
from functools import partial

import pytest
import trio
from tests.support.workers import story
from trio.testing import MockClock

from milvaion_trio import Worker, WorkerSettings
from milvaion_trio.model.events import JobStarted
from milvaion_trio.testing import under_test

Tell = Callable[[str], None]

FULL = "database or disk is full"


@pytest.fixture
def worker() -> Worker:
    worker = Worker(settings=WorkerSettings(worker_id="tests", max_parallel_jobs=2), observers=())

    @worker.job("work", max_parallel=5, timeout=0)
    async def work(data: float = 1) -> str:
        await trio.sleep(data)
        return "done"

    return worker


async def test_running_jobs_go_on_and_no_other_starts(
    worker: Worker, autojump_clock: MockClock, outbox_trouble: Tell
) -> None:
    async with under_test(worker) as kit:
        running = kit.enqueue("work", 30)
        await trio.sleep(1)
        outbox_trouble(FULL)
        await trio.sleep(1)
        waiting = kit.enqueue("work")
        await trio.sleep(100)
        assert story(kit, running) == ["RUNNING", "COMPLETED"]
        assert story(kit, waiting) == []
        assert (len(kit.queue().ready), kit.queue().unacked, kit.queue().consumers) == (1, 0, 0)

        outbox_trouble("")
        await kit.run_until_idle()
        took = trio.current_time() - 102

    assert story(kit, waiting) == ["RUNNING", "COMPLETED"]
    assert took == 1


async def test_what_was_not_started_goes_back_at_once(
    worker: Worker, autojump_clock: MockClock, outbox_trouble: Tell
) -> None:
    """What waits for a slot, which runs for the first time later, and what nobody has looked at yet.

    Of that nobody remembers that it never ran.
    """
    async with under_test(worker) as kit:
        for _ in range(5):
            kit.enqueue("work", 30)
        await trio.sleep(1)
        assert (len(kit.queue().ready), kit.queue().unacked) == (0, 5)

        outbox_trouble(FULL)
        await trio.sleep(0.1)
        assert (len(kit.queue().ready), kit.queue().unacked) == (3, 2)

        outbox_trouble("")
        await kit.run_until_idle()
        started = [event for event in kit.events if isinstance(event, JobStarted)]

    assert len(started) == len({event.occurrence_id for event in started}) == 5
    assert sorted(event.run_number for event in started) == [1, 1, 1, 2, 2]


async def test_another_worker_takes_the_messages(
    worker: Worker, autojump_clock: MockClock, outbox_trouble: Tell
) -> None:
    other, ran = Worker("tests", observers=()), []

    @other.job("work")
    async def work() -> None:
        ran.append(trio.current_time())

    async with under_test(worker) as kit:
        await trio.sleep(1)
        outbox_trouble(FULL)
        other.broker, other.signals = kit.broker, kit.signals
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(other.serve, handle_signals=False))
            for _ in range(3):
                kit.enqueue("work")
            await trio.sleep(1)
            other.drain()

    assert ran == [1, 1, 1]


async def test_a_worker_starts_without_taking_jobs_and_takes_them_later(
    worker: Worker, autojump_clock: MockClock, outbox_trouble: Tell
) -> None:
    """It is up, so that whoever waits for that goes on, and says that it is not ready."""
    outbox_trouble(FULL)
    async with under_test(worker) as kit:
        occurrence = kit.enqueue("work")
        await trio.sleep(60)
        assert worker.readiness.problems == {"outbox": FULL}
        assert (len(kit.queue().ready), kit.queue().consumers) == (1, 0)

        outbox_trouble("")
        await kit.run_until_idle()
        assert worker.readiness.is_ready

    assert story(kit, occurrence) == ["RUNNING", "COMPLETED"]


async def test_trouble_that_comes_and_goes_leaves_every_queue_consumed(
    worker: Worker, autojump_clock: MockClock, outbox_trouble: Tell
) -> None:
    """Also when it is over before the consumer was left. What was in hand then comes again, which a log line says."""
    async with under_test(worker) as kit:
        occurrences = []
        for _ in range(20):
            occurrences.append(kit.enqueue("work"))
            outbox_trouble(FULL)
            outbox_trouble("")
            await trio.sleep(0.3)
        await kit.run_until_idle()
        assert kit.queue().consumers == 1

    stories = [[word for word in story(kit, occurrence) if word != "logs"] for occurrence in occurrences]
    assert stories == [["RUNNING", "COMPLETED"]] * 20


async def test_a_connection_lost_meanwhile_is_used_when_it_is_back(
    worker: Worker, autojump_clock: MockClock, outbox_trouble: Tell
) -> None:
    async with under_test(worker) as kit:
        await trio.sleep(1)
        outbox_trouble(FULL)
        await trio.sleep(1)
        kit.broker.drop_connection()
        occurrence = kit.enqueue("work")
        await trio.sleep(60)
        assert len(kit.queue().ready) == 1
        outbox_trouble("")
        await kit.run_until_idle()

    assert story(kit, occurrence) == ["RUNNING", "COMPLETED"]


async def test_a_worker_in_trouble_leaves_when_it_is_told_to(
    worker: Worker, autojump_clock: MockClock, outbox_trouble: Tell
) -> None:
    async with under_test(worker) as kit:
        await trio.sleep(1)
        outbox_trouble(FULL)
        await trio.sleep(1)
        began = trio.current_time()
        kit.drain()
        await kit.stopped()

    assert trio.current_time() == began
