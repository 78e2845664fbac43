"""Leaving: drain, cancel, give back, flush, say good-bye; each within its budget."""

import threading

import pytest
import trio
from tests.support.workers import OCCURRENCE, job_message, story
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio import JobContext, StopReason, Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import events, headers, topology
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings import ShutdownSettings
from milvaion_trio.testing import under_test


async def test_an_idle_worker_leaves_at_once(worker: Worker, autojump_clock: MockClock) -> None:
    """No budget is waited for when there is nothing to do."""
    async with under_test(worker) as kit:
        await trio.sleep(5)
        kit.drain()
        await kit.stopped()

        assert trio.current_time() == 5


async def test_running_jobs_may_end_within_the_drain_time(worker: Worker, autojump_clock: MockClock) -> None:
    """Nothing new is taken meanwhile, and the worker leaves when the last job has ended."""

    @worker.job(max_parallel=5)
    async def work(data: float) -> str:
        await trio.sleep(data)
        return "done"

    async with under_test(worker) as kit:
        running = kit.enqueue(work, 12)
        await trio.sleep(1)
        kit.drain()
        await wait_all_tasks_blocked()
        late = kit.enqueue(work, 1)
        await kit.stopped()

        assert trio.current_time() == 12

    assert kit.occurrence(running).result == "done"
    assert kit.occurrence(late).statuses == ()
    assert len(kit.queue().ready) == 1


async def test_jobs_that_outlast_the_drain_time_are_cancelled_and_given_back(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """At second 20 of the drain they are told to stop for reason *shutdown*; nothing is told about them."""
    reasons: list[StopReason | None] = []

    @worker.job(max_retries=3)
    async def work(ctx: JobContext) -> None:
        try:
            await trio.sleep_forever()
        finally:
            reasons.append(ctx.cancel_reason)

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work", x_retry_count=2))
        await trio.sleep(1)
        kit.drain()
        await kit.stopped()

        assert trio.current_time() == 21

    assert reasons == [StopReason.SHUTDOWN]
    assert story(kit, OCCURRENCE) == ["RUNNING"]
    (message,) = kit.queue().ready
    assert headers.retry_count(message.headers) == 2
    assert kit.queue().unacked == 0


async def test_of_twenty_jobs_those_that_end_in_time_complete(autojump_clock: MockClock) -> None:
    """The rest is back in its queue with the same retry count; none is Cancelled or dead-lettered (F2)."""
    worker = Worker(settings=WorkerSettings(worker_id="tests", max_parallel_jobs=20), observers=())

    @worker.job(timeout=0)
    async def work(data: float) -> str:
        await trio.sleep(data)
        return "done"

    async with under_test(worker) as kit:
        occurrences = [kit.enqueue(work, 2 * number + 1) for number in range(20)]
        await wait_all_tasks_blocked()
        kit.drain()
        await kit.stopped()

    ended, given_back = occurrences[:10], occurrences[10:]
    assert [kit.occurrence(each).status for each in ended] == [OccurrenceStatus.COMPLETED] * 10
    assert [story(kit, each) for each in given_back] == [["RUNNING"]] * 10
    assert [headers.occurrence_id(message) for message in kit.queue().ready] == given_back
    assert {headers.retry_count(message.headers) for message in kit.queue().ready} == {0}
    assert kit.dead_letters == ()
    assert [event.job_name for event in kit.events if isinstance(event, events.JobReturned)] == ["work"] * 10


async def test_cancelled_jobs_get_the_time_to_clean_up(worker: Worker, autojump_clock: MockClock) -> None:
    """5 s, no more; then the message is given back, whatever the job does."""

    @worker.job()
    async def work(ctx: JobContext) -> None:
        try:
            await trio.sleep_forever()
        finally:
            async with ctx.cleanup(60):
                await trio.sleep(60)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await trio.sleep(1)
        kit.drain()
        await kit.stopped()

        assert trio.current_time() == 1 + 20 + 5

    assert len(kit.queue().ready) == 1


@pytest.mark.parametrize("stop_at", [0.0, 7.0])
async def test_the_second_request_cancels_at_once(worker: Worker, autojump_clock: MockClock, stop_at: float) -> None:
    """Cancelling the scope of `serve` is the second signal, with or without a drain before it."""

    @worker.job()
    async def work() -> None:
        await trio.sleep_forever()

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(1)
        if stop_at:
            kit.drain()
        await trio.sleep(stop_at)
        kit.stop()
        await kit.stopped()

        assert trio.current_time() == 1 + stop_at

    assert story(kit, occurrence) == ["RUNNING"]
    assert len(kit.queue().ready) == 1
    assert kit.heartbeats[-1].is_stopping


async def test_a_job_that_completes_although_it_is_cancelled_is_completed(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """It is told, so it does not run again."""

    @worker.job()
    async def work() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(4)
        return "done"

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(1)
        kit.stop()
        await kit.stopped()

        assert trio.current_time() == 4

    assert kit.occurrence(occurrence).result == "done"
    assert kit.queue().depth == 0


async def test_reports_get_the_flush_time(worker: Worker, autojump_clock: MockClock) -> None:
    """3 s for the last reports to be confirmed; then the worker leaves, and the message runs again elsewhere."""

    @worker.job()
    async def work() -> None:
        await trio.sleep(1)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await wait_all_tasks_blocked()
        with kit.broker.hold_confirms():
            await trio.sleep(2)
            kit.drain()
            await kit.stopped()

            assert trio.current_time() == 2 + 3

    assert (len(kit.queue().ready), kit.queue().unacked) == (1, 0)


async def test_all_three_budgets_together_are_28_seconds(worker: Worker, autojump_clock: MockClock) -> None:
    """Inside the 30 s that Kubernetes gives: drain 20, clean-up 5, flush 3."""

    @worker.job(max_parallel=2)
    async def work(ctx: JobContext, stubborn: bool) -> None:
        try:
            await trio.sleep(1 if not stubborn else 1000)
        finally:
            if stubborn:
                async with ctx.cleanup():
                    await trio.sleep_forever()

    async with under_test(worker) as kit:
        kit.enqueue(work, True)
        kit.enqueue(work, False)
        await wait_all_tasks_blocked()
        with kit.broker.hold_confirms():
            kit.drain()
            await kit.stopped()

        assert trio.current_time() == 28


async def test_a_job_that_shields_itself_for_ever_keeps_nobody_from_leaving_in_order(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """Its message is given back, reports are flushed and `IsStopping` is sent; then `serve` waits for it."""
    let_go = trio.Event()

    @worker.job(max_parallel=2)
    async def work(ctx: JobContext, stubborn: bool) -> None:
        if not stubborn:
            return
        with trio.CancelScope(shield=True):
            await let_go.wait()

    async with under_test(worker) as kit:
        stubborn = kit.enqueue(work, True)
        other = kit.enqueue(work, False)
        await trio.sleep(1)
        kit.drain()
        await trio.sleep(25)
        await wait_all_tasks_blocked()

        assert (len(kit.queue().ready), kit.queue().unacked) == (1, 0)
        assert kit.heartbeats[-1].is_stopping
        assert kit.occurrence(other).status is OccurrenceStatus.COMPLETED
        assert kit.events[-1] == events.WorkerStopped(worker.instance_id, ("work",))
        with trio.move_on_after(1000):
            await kit.stopped()
            raise AssertionError("serve left a running job behind")

        let_go.set()
        with trio.fail_after(0.1):
            await kit.stopped()

    assert story(kit, stubborn) == ["RUNNING"]


async def test_what_a_given_up_job_returns_is_ignored(worker: Worker, autojump_clock: MockClock) -> None:
    """Its message runs again elsewhere, so two outcomes would be told."""

    @worker.job()
    async def work() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)
        return "too late"

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(1)
        kit.drain()
        await kit.stopped()

    assert story(kit, occurrence) == ["RUNNING"]
    assert len(kit.queue().ready) == 1


async def test_deliveries_without_a_slot_are_given_back_at_once(autojump_clock: MockClock) -> None:
    """Another worker takes them while this one still drains."""
    worker = Worker(settings=WorkerSettings(worker_id="tests", max_parallel_jobs=1), observers=())

    @worker.job("first")
    async def first() -> None:
        await trio.sleep(10)

    @worker.job("second")
    async def second() -> None: ...

    async with under_test(worker) as kit:
        kit.enqueue(first)
        await wait_all_tasks_blocked()
        kit.enqueue(second)
        await trio.sleep(1)
        assert kit.queue(second).unacked == 1
        kit.drain()
        await wait_all_tasks_blocked()

        assert (len(kit.queue(second).ready), kit.queue(second).unacked) == (1, 0)
        assert trio.current_time() == 1


async def test_job_heartbeats_go_on_while_the_worker_drains(autojump_clock: MockClock) -> None:
    """A job that gets an hour to end is not taken for a zombie."""
    settings = WorkerSettings(worker_id="tests", shutdown=ShutdownSettings(drain_timeout=3600))
    worker = Worker(settings=settings, observers=())

    @worker.job(timeout=0)
    async def work() -> None:
        await trio.sleep(1000)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(1)
        kit.drain()
        await kit.stopped()

    assert story(kit, occurrence) == ["RUNNING", *["heartbeat"] * 16, "COMPLETED"]


async def test_a_cancel_signal_reaches_a_job_while_the_worker_drains(worker: Worker, autojump_clock: MockClock) -> None:
    """The subscription outlives the intake."""

    @worker.job()
    async def work() -> None:
        await trio.sleep_forever()

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(1)
        kit.drain()
        await trio.sleep(5)
        kit.cancel(occurrence)
        await kit.stopped()

        assert trio.current_time() == 6

    assert kit.occurrence(occurrence).status is OccurrenceStatus.CANCELLED


async def test_drain_may_be_called_twice_and_when_nobody_serves(worker: Worker, autojump_clock: MockClock) -> None:
    """It is idempotent, before, while and after serving."""
    worker.drain()
    async with under_test(worker) as kit:
        await trio.sleep(1)
        kit.drain()
        kit.drain()
        await kit.stopped()
    worker.drain()

    assert [beat.is_stopping for beat in kit.heartbeats].count(True) == 1


async def test_drain_may_be_called_from_another_thread(worker: Worker) -> None:
    """`Worker.drain()` is safe anywhere; a host's own signal code may run where it likes."""
    async with under_test(worker) as kit:
        thread = threading.Thread(target=worker.drain)
        thread.start()
        with trio.fail_after(5):
            await kit.stopped()
        thread.join()

    assert kit.heartbeats[-1].is_stopping


async def test_drain_ends_a_start_that_is_not_complete(autojump_clock: MockClock) -> None:
    """A worker that still looks for its broker has nothing to wind down."""
    broker = EmbeddedBroker()
    broker.refuse_connections = True
    worker = Worker("tests", broker=broker, observers=())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.serve)
        await trio.sleep(3)
        worker.drain()

    assert trio.current_time() == 3


async def test_cancelling_serve_ends_a_start_that_is_not_complete(autojump_clock: MockClock) -> None:
    """At once, and as a cancellation."""
    broker = EmbeddedBroker()
    broker.refuse_connections = True
    worker = Worker("tests", broker=broker, observers=())

    with trio.move_on_after(3) as scope:
        await worker.serve()

    assert scope.cancelled_caught
    assert trio.current_time() == 3


async def test_a_worker_can_serve_again(worker: Worker, autojump_clock: MockClock) -> None:
    """Everything of one serving ends with it."""

    @worker.job()
    async def work() -> str:
        return "done"

    for _ in range(2):
        async with under_test(worker) as kit:
            occurrence = kit.enqueue(work)
            await kit.run_until_idle()
        assert kit.occurrence(occurrence).result == "done"


async def test_the_last_message_of_a_worker_is_its_goodbye(worker: Worker, autojump_clock: MockClock) -> None:
    """Nothing follows `IsStopping`, also when jobs were given back and logs were waiting."""

    @worker.job()
    async def work(ctx: JobContext) -> None:
        ctx.log.info("a line that waits for company")
        await trio.sleep_forever()

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await wait_all_tasks_blocked()
        kit.stop()
        await kit.stopped()

    assert kit.published[-1].target == topology.HEARTBEAT_QUEUE
    assert kit.heartbeats[-1].is_stopping
    assert kit.occurrence(occurrence).messages == ("a line that waits for company",)
