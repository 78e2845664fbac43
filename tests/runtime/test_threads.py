"""Jobs in threads: asked to stop, waited for, and left behind when they do not listen. In real time, as threads are."""

import contextlib
import re
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest
import trio
from attrs import evolve

from milvaion_trio import JobContext, StopReason, Worker, WorkerSettings, current_job
from milvaion_trio.model.events import Event, JobConcluded, JobRetried
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings import ShutdownSettings
from milvaion_trio.testing import under_test


@pytest.fixture
def worker(worker: Worker) -> Worker:
    """Cancelled jobs get a tenth of a second to clean up."""
    budgets = ShutdownSettings(drain_timeout=0.1, cleanup_timeout=0.1, flush_timeout=1)
    worker.settings = evolve(worker.settings, shutdown=budgets)
    return worker


class Lent:
    """Something that a job is given."""


async def test_a_plain_function_runs_in_a_thread_and_is_reported_like_any_job(worker: Worker) -> None:
    """Result, logs in their order, and the current job are there as in a task."""

    @worker.job()
    def work(ctx: JobContext, data: int) -> str:
        assert current_job().occurrence_id == ctx.occurrence_id
        for number in range(data):
            ctx.log.info(f"line {number}")
        return threading.current_thread().name

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work, 5)
        with trio.fail_after(5):
            await kit.run_until_idle()

    view = kit.occurrence(occurrence)
    assert view.result != threading.main_thread().name
    assert view.messages == tuple(f"line {number}" for number in range(5))


async def test_an_error_in_a_thread_fails_that_job_alone(worker: Worker) -> None:
    """Whatever it is (RELIABILITY.md F23)."""

    @worker.job(max_retries=0)
    def work() -> None:
        raise SystemExit(3)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        with trio.fail_after(5):
            await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.FAILED


async def test_a_thread_that_asks_is_told_to_stop(worker: Worker) -> None:
    """`ctx.check_cancelled()` raises `JobCancelled`, and the job ends as Cancelled."""
    started = threading.Event()

    @worker.job()
    def work(ctx: JobContext) -> None:
        started.set()
        while True:
            ctx.check_cancelled()
            time.sleep(0.001)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        with trio.fail_after(5):
            await trio.to_thread.run_sync(started.wait)
            kit.cancel(occurrence, "enough")
            await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.CANCELLED
    assert kit.occurrence(occurrence).result == "work was cancelled: enough"


async def test_a_thread_that_asks_is_told_of_its_time_limit(worker: Worker) -> None:
    """A timeout is asked for in the same way."""

    @worker.job(timeout=0.05)
    def work(ctx: JobContext) -> None:
        while True:
            ctx.check_cancelled()
            time.sleep(0.001)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        with trio.fail_after(5):
            await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.TIMED_OUT


@pytest.mark.parametrize("is_late", [True, False])
async def test_a_thread_can_ask_why_it_is_to_stop(worker: Worker, is_late: bool) -> None:
    """`ctx.cancel_reason` is `None` before, and afterwards the reason, also that of the time limit."""
    asked: list[StopReason | None] = []

    @worker.job(timeout=0.05 if is_late else 60)
    def work(ctx: JobContext) -> None:
        asked.append(ctx.cancel_reason)
        try:
            while True:
                ctx.check_cancelled()
                time.sleep(0.001)
        finally:
            asked.append(ctx.cancel_reason)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        with trio.fail_after(5):
            if not is_late:
                await trio.to_thread.run_sync(_until, lambda: bool(asked))
                kit.cancel(occurrence, "enough")
            await kit.run_until_idle()

    assert asked == [None, StopReason.TIMEOUT if is_late else StopReason.CANCELLED]


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.001)


async def test_a_thread_that_ends_within_its_grace_is_completed(worker: Worker) -> None:
    """It was told to stop and finished its work instead."""
    started, go = threading.Event(), threading.Event()

    @worker.job()
    def work() -> str:
        started.set()
        go.wait(5)
        return "done anyway"

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        with trio.fail_after(5):
            await trio.to_thread.run_sync(started.wait)
            kit.cancel(occurrence)
            await trio.sleep(0.02)
            go.set()
            await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.COMPLETED


async def test_a_thread_that_ignores_its_cancellation_is_left_behind(worker: Worker) -> None:
    """Cancelled is told after the grace; the slot stays taken until the thread has really ended (F22)."""
    started, go, concluded = threading.Event(), threading.Event(), trio.Event()
    worker.observe(lambda event: concluded.set() if isinstance(event, JobConcluded) else None)

    @worker.job(max_parallel=1)
    def work(data: int) -> str:
        if data == 1:
            started.set()
            go.wait(5)
        return f"job {data}"

    async with under_test(worker) as kit:
        first = kit.enqueue(work, 1)
        with trio.fail_after(5):
            await trio.to_thread.run_sync(started.wait)
            kit.cancel(first)
            second = kit.enqueue(work, 2)
            await concluded.wait()
            await trio.sleep(0.05)
            assert kit.occurrence(first).status is OccurrenceStatus.CANCELLED
            assert "its code still runs" in str(kit.occurrence(first).result)
            assert kit.occurrence(second).statuses == ()

            go.set()
            await kit.run_until_idle()

    assert kit.occurrence(second).result == "job 2"
    assert [status.status for status in kit.occurrence(first).statuses][-1] is OccurrenceStatus.CANCELLED


@pytest.mark.parametrize("is_retried", [False, True])
async def test_a_thread_that_ignores_its_time_limit_is_said_to_run_on(worker: Worker, is_retried: bool) -> None:
    """Not that it was stopped: whoever reads that may start the work again, beside itself."""
    go, concluded = threading.Event(), trio.Event()
    told: list[str | None] = []

    def tell(event: Event) -> None:
        if isinstance(event, JobConcluded | JobRetried):
            told.append(event.text)
            concluded.set()

    worker.observe(tell)

    @worker.job(timeout=0.05, retry_on_timeout=is_retried)
    def work() -> None:
        go.wait(5)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        with trio.fail_after(5):
            await concluded.wait()
        go.set()

    view = kit.occurrence(occurrence)
    for text in (*told, view.messages[0], *([] if is_retried else [view.exception])):
        assert re.search(r"work was given up after \d+ ms, its limit is 0.05 s; .* its code still runs", str(text))


async def test_a_slot_comes_back_when_the_thread_ends_while_its_job_is_closed(worker: Worker) -> None:
    """Between leaving the thread behind and concluding the job, what the job was given is closed, which takes time."""
    started, go, ended = threading.Event(), threading.Event(), threading.Event()

    @contextlib.asynccontextmanager
    async def lend() -> AsyncIterator[Lent]:
        try:
            yield Lent()
        finally:
            if not go.is_set():
                go.set()
                await trio.to_thread.run_sync(ended.wait)  # the worker shields closing
                await trio.sleep(0.02)  # the worker shields closing

    worker.provide(Lent, lend)

    @worker.job(max_parallel=1)
    def work(data: int, lent: Lent) -> str:
        if data == 1:
            started.set()
            go.wait(5)
            ended.set()
        return f"job {data}"

    async with under_test(worker) as kit:
        first = kit.enqueue(work, 1)
        with trio.fail_after(5):
            await trio.to_thread.run_sync(started.wait)
            kit.cancel(first)
            second = kit.enqueue(work, 2)
            await kit.run_until_idle()

    assert kit.occurrence(first).status is OccurrenceStatus.CANCELLED
    assert kit.occurrence(second).result == "job 2"


async def test_threads_have_a_limiter_of_their_own(worker: Worker) -> None:
    """Jobs that fill all their slots leave Trio's own threads to the host program."""
    worker.settings = WorkerSettings(worker_id="tests", max_parallel_jobs=45)
    barrier = threading.Barrier(46)

    @worker.job()
    def work() -> None:
        barrier.wait(10)

    async with under_test(worker) as kit:
        for _ in range(45):
            kit.enqueue(work)
        with trio.fail_after(10):
            await trio.to_thread.run_sync(barrier.wait)
            await kit.run_until_idle()

    assert [status.status for status in kit.statuses].count(OccurrenceStatus.COMPLETED) == 45


async def test_a_shutdown_does_not_wait_for_a_thread_that_does_not_listen(worker: Worker) -> None:
    """Its message goes back, and the program is free to end: the thread is a daemon."""
    started, go = threading.Event(), threading.Event()

    @worker.job()
    def work() -> None:
        started.set()
        go.wait(10)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        with trio.fail_after(5):
            await trio.to_thread.run_sync(started.wait)
            kit.stop()
            await kit.stopped()
        go.set()

    assert len(kit.queue().ready) == 1
    assert kit.heartbeats[-1].is_stopping
