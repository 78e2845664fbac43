"""Timeouts: which limit counts, and that it strikes at its second."""

import pytest
import trio
from tests.support.workers import OCCURRENCE, at, job_message, story
from trio.testing import MockClock

from milvaion_trio import Worker, WorkerSettings
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings import JobSettings
from milvaion_trio.testing import under_test


async def test_a_job_is_stopped_at_the_second_of_its_limit(worker: Worker, autojump_clock: MockClock) -> None:
    """TimedOut, final, not retried, no dead letter; the sentence tells limit and elapsed time (WIRE.md 3.1, 6)."""

    @worker.job(timeout=20, max_retries=3)
    async def work() -> None:
        await trio.sleep_forever()

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert story(kit, occurrence) == ["RUNNING", "logs", "TIMED_OUT"]
    final = kit.occurrence(occurrence).final
    assert final is not None
    assert (final.start_time, final.end_time, final.duration_ms, final.result) == (at(0), at(20), 20_000, None)
    assert final.exception == "work was stopped after 20000 ms, its limit is 20 s"
    assert kit.dead_letters == ()


@pytest.mark.parametrize(
    ("of_message", "of_job", "of_worker", "limit"),
    [
        (5, 20, 40, 5),
        (50, 20, 40, 50),
        (None, 20, 40, 20),
        (None, None, 40, 40),
        (None, 0, 40, None),
        (None, None, 0, None),
        (0, 20, 40, None),
        (-1, 20, 40, None),
    ],
)
async def test_the_limit_of_the_message_counts_before_the_jobs_before_the_workers(
    autojump_clock: MockClock, of_message: int | None, of_job: float | None, of_worker: float, limit: float | None
) -> None:
    """None inherits, 0 means none (DESIGN.md 2 and 5)."""
    worker = Worker(settings=WorkerSettings(worker_id="tests", execution_timeout=of_worker), observers=())

    @worker.job(timeout=of_job)
    async def work() -> None:
        await trio.sleep(1000)

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work", timeout=of_message))
        await kit.run_until_idle()

    final = kit.occurrence(OCCURRENCE).final
    assert final is not None
    if limit is None:
        assert (final.status, final.end_time) == (OccurrenceStatus.COMPLETED, at(1000))
    else:
        assert (final.status, final.end_time) == (OccurrenceStatus.TIMED_OUT, at(limit))


async def test_the_settings_of_the_job_count_before_its_decorator(autojump_clock: MockClock) -> None:
    """A file is changed by who runs the worker, and they have the last word."""
    settings = WorkerSettings(worker_id="tests", jobs={"WORK": JobSettings(timeout=3)})
    worker = Worker(settings=settings, observers=())

    @worker.job(timeout=20)
    async def work() -> None:
        await trio.sleep_forever()

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).statuses[-1].duration_ms == 3000


async def test_a_job_may_ask_to_be_retried_after_a_timeout(worker: Worker, autojump_clock: MockClock) -> None:
    """`retry_on_timeout`; when the retries are used up it is TimedOut still, without a dead letter."""

    @worker.job(timeout=10, retry_on_timeout=True, max_retries=2, base_retry_delay=5)
    async def work() -> None:
        await trio.sleep_forever()

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert [retry.delay for retry in kit.retries] == [5, 10]
    assert kit.occurrence(occurrence).status is OccurrenceStatus.TIMED_OUT
    assert kit.dead_letters == ()


async def test_each_attempt_has_the_whole_limit(worker: Worker, autojump_clock: MockClock) -> None:
    """Time spent on earlier attempts and on waiting does not count."""

    @worker.job(timeout=10, base_retry_delay=100, max_retries=1)
    async def work() -> str:
        await trio.sleep(9)
        if trio.current_time() < 100:
            raise ValueError
        return "second"

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == "second"


async def test_what_is_raised_on_the_way_out_is_appended(worker: Worker, autojump_clock: MockClock) -> None:
    """A `finally` that raises does not turn a timeout into a failure (DESIGN.md 5.5)."""

    @worker.job(timeout=10)
    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("disk is gone")

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    view = kit.occurrence(occurrence)
    assert view.status is OccurrenceStatus.TIMED_OUT
    assert str(view.exception).startswith(
        "work was stopped after 10000 ms, its limit is 10 s\nWhile it was stopping, the job raised:\nType: OSError\n"
        "Message: disk is gone"
    )
