"""Guarantees that nothing else would notice the loss of; each test names the sabotage that it is for."""

import threading

import trio
from attrs import evolve
from tests.support.workers import job_message
from trio.testing import MockClock

from milvaion_trio import JobCancelled, JobContext, Worker
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.ports import Queue, Topology
from milvaion_trio.runtime.dispatching import Destination, dispatch_message
from milvaion_trio.testing import under_test


async def test_a_message_refused_after_its_wait_gives_its_slots_back(worker: Worker, autojump_clock: MockClock) -> None:
    """Sabotage: keep the slots when the second admission says no."""
    worker.settings = evolve(worker.settings, max_parallel_jobs=1)
    started: list[str] = []

    @worker.job(max_parallel=3)
    async def work(data: str) -> None:
        started.append(data)
        await trio.sleep(10)

    async with under_test(worker) as kit:
        kit.enqueue(work, "first")
        second = kit.enqueue(work, "second")
        kit.enqueue(work, "third")
        await trio.sleep(5)
        kit.cancel(second)
        await kit.run_until_idle()

    assert started == ["first", "third"]


async def test_a_quarantined_message_is_acked_only_when_it_is_safe(worker: Worker, autojump_clock: MockClock) -> None:
    """Sabotage: ack it before the quarantine's confirm."""

    @worker.job()
    async def work() -> None: ...

    async with under_test(worker) as kit:
        with kit.broker.hold_confirms():
            kit.dispatch(Message(body=b"junk"), to=work)
            await trio.sleep(1)
            assert kit.queue(work).unacked == 1
        await kit.run_until_idle()
        assert kit.queue(work).unacked == 0


async def test_what_a_job_raises_when_the_shutdown_stops_it_is_no_failure(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """Sabotage: let the exception decide before the reason."""

    @worker.job(max_retries=3, base_retry_delay=1)
    async def work() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise ValueError("on its way out") from None

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(1)
        kit.drain()
        await kit.stopped()
        view = kit.occurrence(occurrence)

        assert view.final is None
        assert list(view.retries) == []
        assert len(kit.queue(work).ready) == 1


async def test_a_cancel_for_a_running_job_is_remembered_for_its_next_attempt(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """Sabotage: remember only cancels for what does not run. The signal may come when the attempt has just failed."""
    attempts: list[int] = []

    @worker.job(max_retries=3, base_retry_delay=10)
    async def work(ctx: JobContext) -> None:
        attempts.append(ctx.attempt)
        raise ValueError

    async with under_test(worker) as kit:
        with kit.broker.hold_confirms():
            occurrence = kit.enqueue(work)
            await trio.sleep(1)
            kit.cancel(occurrence)
        await kit.run_until_idle()

    assert attempts == [1]
    assert kit.occurrence(occurrence).status is OccurrenceStatus.CANCELLED


async def test_every_attempt_of_an_occurrence_has_message_ids_of_its_own(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """Sabotage: leave the dispatch stamp out of the ids; a consumer that removes equal ones would lose a status."""

    @worker.job(max_retries=1, base_retry_delay=1)
    async def work() -> None:
        raise ValueError

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work", timestamp=1), to=work)
        await kit.run_until_idle()
        kit.dispatch(job_message("work", timestamp=2), to=work)
        await kit.run_until_idle()
        ids = [published.message.message_id for published in kit.published]

    finals = [one for one in ids if one is not None and one.endswith(":final")]
    assert len(finals) == len(set(finals)) == 2


async def test_the_end_of_one_job_leaves_the_log_lines_of_others_alone(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """Sabotage: drop everybody's buffered lines at a conclusion."""

    @worker.job()
    async def quick(ctx: JobContext) -> None:
        ctx.log.info("quick line")

    @worker.job()
    async def slow(ctx: JobContext) -> None:
        ctx.log.info("slow line")
        await trio.sleep(60)

    async with under_test(worker) as kit:
        of_slow = kit.enqueue(slow)
        await trio.sleep(0.1)
        kit.enqueue(quick)
        await trio.sleep(2)

        assert kit.occurrence(of_slow).messages == ("slow line",)


async def test_the_worker_goes_on_beating_while_it_drains(worker: Worker, autojump_clock: MockClock) -> None:
    """Sabotage: stop with the intake. The API would drop the instance while its jobs run on."""
    worker.settings = evolve(worker.settings, heartbeat=evolve(worker.settings.heartbeat, interval=5))

    @worker.job()
    async def work() -> None:
        await trio.sleep(15)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await trio.sleep(0.5)
        before = len(kit.heartbeats)
        kit.drain()
        await trio.sleep(14)

        assert len(kit.heartbeats) - before >= 2
        assert not any(heartbeat.is_stopping for heartbeat in kit.heartbeats)


async def test_nothing_is_told_of_local_occurrences_that_do_not_run(worker: Worker, autojump_clock: MockClock) -> None:
    """Sabotage: report a refusal or a cancel before the start although a Milvaion API does not know the occurrence."""

    @worker.job("Work")
    async def work() -> None: ...

    to = Destination(worker_id="tests", job_name="Unknown", pattern=topology.routing_pattern("tests", "Work"))
    async with under_test(worker, broker=EmbeddedBroker(), local_occurrences=False) as kit:
        kit.broker.publish_nowait(dispatch_message(to, None))
        cancelled = kit.enqueue(work, delay=5)
        kit.cancel(cancelled)
        await kit.run_until_idle()

    assert not [*kit.statuses, *kit.logs, *kit.dead_letters]


async def test_a_thread_learns_that_it_was_told_to_stop(worker: Worker) -> None:
    """Sabotage: never raise in `check_cancelled`."""
    learned, ended = threading.Event(), threading.Event()

    @worker.job()
    def work(ctx: JobContext) -> None:
        try:
            for _ in range(1000):
                ctx.check_cancelled()
                ended.wait(0.005)
        except JobCancelled:
            learned.set()
            raise

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        with trio.fail_after(5):
            await trio.sleep(0.1)
            kit.cancel(occurrence)
            await kit.run_until_idle()

    assert learned.is_set()
    assert kit.occurrence(occurrence).status is OccurrenceStatus.CANCELLED


async def test_idle_waits_for_running_jobs_and_for_their_reports(worker: Worker, autojump_clock: MockClock) -> None:
    """Sabotage: look at the queues alone."""

    @worker.job()
    async def work() -> None:
        await trio.sleep(10)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await worker.idle()
        assert trio.current_time() >= 10

        with kit.broker.hold_confirms():
            kit.enqueue(work)
            with trio.move_on_after(30) as patience:
                await worker.idle()
            assert patience.cancelled_caught


async def test_idle_waits_for_what_is_delayed_for_its_own_queues(worker: Worker, autojump_clock: MockClock) -> None:
    """Sabotage: count what is delayed for anybody, or only what this worker put off: the broker knows all."""
    ended: list[float] = []

    @worker.job()
    async def work() -> None:
        ended.append(trio.current_time())

    async with under_test(worker) as kit:
        kit.broker.declare_nowait(Topology(queues=[Queue("another's")]))
        kit.broker.publish_nowait(Publication(Message(body=b"{}"), "another's", delay=1000))
        kit.enqueue(work, delay=300)
        await worker.idle()
        idle_at = trio.current_time()

    assert [round(each) for each in ended] == [300]
    assert idle_at < 301
