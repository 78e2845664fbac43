"""Cancel signals: for what runs, for what waits, and for what is still to come."""

import pytest
import trio
from tests.support.workers import OCCURRENCE, guid, job_message, story
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio import JobContext, Worker
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.testing import VIRTUAL_START, under_test


async def test_a_queued_job_is_cancelled_before_it_starts(worker: Worker, autojump_clock: MockClock) -> None:
    """The signal is remembered; when the message comes, it ends as Cancelled and the job's code never runs."""
    ran: list[object] = []

    @worker.job(max_parallel=1)
    async def work(ctx: JobContext) -> None:
        ran.append(ctx.occurrence_id)
        await trio.sleep(10)

    async with under_test(worker) as kit:
        first = kit.enqueue(work)
        second = kit.enqueue(work)
        await trio.sleep(1)
        kit.cancel(second, "second thoughts")
        await kit.run_until_idle()

    assert ran == [first]
    view = kit.occurrence(second)
    assert story(kit, second) == ["logs", "CANCELLED"]
    assert view.result == "work was cancelled before it started: second thoughts"
    assert view.final is not None
    assert (view.final.start_time, view.final.duration_ms) == (None, None)


async def test_a_job_that_waits_for_its_retry_is_cancelled(worker: Worker, autojump_clock: MockClock) -> None:
    """The copy ends as Cancelled when it is delivered; there is no further attempt."""
    runs = 0

    @worker.job(base_retry_delay=60)
    async def work() -> None:
        nonlocal runs
        runs += 1
        raise ValueError

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(30)
        kit.cancel(occurrence)
        await kit.run_until_idle()

    assert runs == 1
    assert story(kit, occurrence) == ["RUNNING", "logs", "retry", "logs", "CANCELLED"]


async def test_a_cancel_for_an_unknown_occurrence_does_no_harm(worker: Worker, autojump_clock: MockClock) -> None:
    """Every instance hears the cancels of all workers."""

    @worker.job()
    async def work() -> None:
        await trio.sleep(2)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(1)
        kit.cancel(guid(1))
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.COMPLETED
    assert kit.occurrence(guid(1)).statuses == ()


async def test_a_second_cancel_changes_nothing(worker: Worker, autojump_clock: MockClock) -> None:
    """The first reason stays, and the job is not disturbed in its clean-up."""

    @worker.job()
    async def work(ctx: JobContext) -> None:
        try:
            await trio.sleep_forever()
        finally:
            async with ctx.cleanup():
                await trio.sleep(3)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(1)
        kit.cancel(occurrence, "first")
        await trio.sleep(1)
        kit.cancel(occurrence, "second")
        await kit.run_until_idle()

    view = kit.occurrence(occurrence)
    assert [status.status for status in view.statuses] == [OccurrenceStatus.RUNNING, OccurrenceStatus.CANCELLED]
    assert view.result == "work was cancelled: first"
    assert view.final is not None
    assert view.final.duration_ms == 4000


async def test_a_cancel_after_the_end_does_not_reach_the_next_occurrence(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """An occurrence that is concluded stays as it is."""

    @worker.job()
    async def work() -> None: ...

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()
        kit.cancel(occurrence)
        await wait_all_tasks_blocked()
        other = kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.COMPLETED
    assert kit.occurrence(other).status is OccurrenceStatus.COMPLETED


@pytest.mark.parametrize(("dispatched", "status"), [(9, OccurrenceStatus.CANCELLED), (11, OccurrenceStatus.COMPLETED)])
async def test_a_cancel_applies_to_what_was_dispatched_before_it(
    worker: Worker, autojump_clock: MockClock, dispatched: int, status: OccurrenceStatus
) -> None:
    """A workflow dispatches an occurrence again, which is a new wish to run it (DESIGN.md 5.1, WIRE.md 12.1)."""
    start = int(VIRTUAL_START.to_datetime().timestamp())

    @worker.job()
    async def work() -> None: ...

    async with under_test(worker) as kit:
        await trio.sleep(10)
        kit.cancel(OCCURRENCE)
        await trio.sleep(10)
        kit.dispatch(job_message("work", timestamp=start + dispatched))
        await kit.run_until_idle()

    assert kit.occurrence(OCCURRENCE).status is status


async def test_jobs_go_on_while_no_signal_can_be_heard(worker: Worker, autojump_clock: MockClock) -> None:
    """Signals are advisory; the worker listens again as soon as it can."""

    @worker.job(timeout=0)
    async def work() -> None:
        await trio.sleep(500)

    async with under_test(worker) as kit:
        first = kit.enqueue(work)
        with kit.signals.unreachable():
            await trio.sleep(100)
            second = kit.enqueue(work)
            await wait_all_tasks_blocked()
            assert kit.occurrence(second).status is OccurrenceStatus.RUNNING
        await trio.sleep(31)
        kit.cancel(second)
        await kit.run_until_idle()

    assert kit.occurrence(first).status is OccurrenceStatus.COMPLETED
    assert kit.occurrence(second).status is OccurrenceStatus.CANCELLED


async def test_a_worker_starts_without_signals(worker: Worker, autojump_clock: MockClock) -> None:
    """Redis absent is a warning, never fatal (DESIGN.md 2)."""
    from milvaion_trio.signals.local import LocalSignals

    signals = LocalSignals()

    @worker.job()
    async def work() -> str:
        return "done"

    with signals.unreachable():
        async with under_test(worker, signals=signals) as kit:
            occurrence = kit.enqueue(work)
            await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == "done"
