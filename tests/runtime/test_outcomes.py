"""What becomes of a job that does not simply return: the outcome rules of DESIGN.md 5.5, one by one."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from milvaion_trio import JobContext, StopReason, Worker
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.testing import OccurrenceView, WorkerUnderTest, under_test


async def neighbour_of(kit: WorkerUnderTest) -> OccurrenceView:
    """Run all there is, then a job beside it, and see that this one is served as ever."""
    other = kit.enqueue("neighbour")
    await kit.run_until_idle()
    return kit.occurrence(other)


@pytest.fixture
def worker(worker: Worker) -> Worker:
    @worker.job("neighbour")
    async def neighbour() -> str:
        await trio.sleep(1)
        return "served"

    return worker


# --- cancelled --------------------------------------------------------------------------------------------------------


async def test_a_cancelled_job_ends_as_cancelled_at_its_next_checkpoint(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """Its `finally` blocks run; the sentence tells the reason; nothing is retried or dead-lettered."""
    cleaned_up = False

    @worker.job(max_retries=3)
    async def work(ctx: JobContext) -> None:
        nonlocal cleaned_up
        try:
            await trio.sleep_forever()
        finally:
            cleaned_up = ctx.cancel_reason is StopReason.CANCELLED

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(5)
        kit.cancel(occurrence, "not needed any more")
        await kit.run_until_idle()

    view = kit.occurrence(occurrence)
    assert cleaned_up
    assert view.status is OccurrenceStatus.CANCELLED
    assert view.result == "work was cancelled: not needed any more"
    assert view.exception is None
    assert view.final is not None
    assert view.final.duration_ms == 5000
    assert (kit.retries, kit.dead_letters) == ((), ())


async def test_a_job_that_swallows_its_cancellation_and_returns_is_completed(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """It was told to stop and finished its work instead: the work is done."""

    @worker.job()
    async def work() -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(10)
        return "done anyway"

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(5)
        kit.cancel(occurrence)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.COMPLETED
    assert kit.occurrence(occurrence).result == "done anyway"


async def test_what_a_cancelled_job_raises_is_appended(worker: Worker, autojump_clock: MockClock) -> None:
    """A `finally` that raises does not turn a cancel into a failure."""

    @worker.job(max_retries=3)
    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("disk is gone")

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(5)
        kit.cancel(occurrence, "stop it")
        await kit.run_until_idle()

    view = kit.occurrence(occurrence)
    assert view.status is OccurrenceStatus.CANCELLED
    assert str(view.result).startswith(
        "work was cancelled: stop it\nWhile it was stopping, the job raised:\nType: OSError\nMessage: disk is gone\n"
    )


@pytest.mark.parametrize(("cancel_at", "status"), [(9, OccurrenceStatus.CANCELLED), (11, OccurrenceStatus.TIMED_OUT)])
async def test_the_first_recorded_reason_wins(
    worker: Worker, autojump_clock: MockClock, cancel_at: float, status: OccurrenceStatus
) -> None:
    """A job that takes 5 s to stop, with a time limit of 10 s, gets the cancel before or after its deadline."""

    @worker.job(timeout=10)
    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(cancel_at)
        kit.cancel(occurrence)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is status


async def test_a_job_that_cancels_its_own_scope_has_failed(worker: Worker, autojump_clock: MockClock) -> None:
    """A cancellation that nobody recorded is a failure."""

    @worker.job(max_retries=0)
    async def work(ctx: JobContext) -> None:
        ctx.cancel_scope.cancel()
        await trio.sleep_forever()

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.FAILED
    assert "the job cancelled its own scope" in str(kit.occurrence(occurrence).exception)


# --- whatever is raised -----------------------------------------------------------------------------------------------


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Foreign(BaseException):
    pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: Foreign("a BaseException"),
        lambda: KeyboardInterrupt("raised by the job"),
        lambda: SystemExit(3),
        lambda: GeneratorExit("odd"),
        lambda: ExceptionGroup("two", [ValueError("one"), KeyError("other")]),
        lambda: BaseExceptionGroup("mixed", [KeyboardInterrupt(), ValueError("other")]),
        lambda: Silent(),
        lambda: StopIteration(5),
        lambda: StopAsyncIteration(),
        lambda: trio.TooSlowError(),
        lambda: AssertionError(),
        lambda: RecursionError("deep"),
        lambda: MemoryError(),
    ],
    ids=lambda make: type(make()).__name__,
)
async def test_whatever_a_job_raises_fails_that_job_alone(
    worker: Worker, autojump_clock: MockClock, make: Callable[[], BaseException]
) -> None:
    """A neighbour that runs at the same time completes, and the worker serves on (RELIABILITY.md F23)."""

    @worker.job(max_retries=0)
    async def work() -> None:
        await trio.sleep(0.5)
        raise make()

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        neighbour = kit.enqueue("neighbour")
        await kit.run_until_idle()
        later = await neighbour_of(kit)

    assert kit.occurrence(occurrence).status is OccurrenceStatus.FAILED
    assert type(make()).__name__ in str(kit.occurrence(occurrence).exception)
    assert len(kit.occurrence(occurrence).dead_letters) == 1
    assert kit.occurrence(neighbour).result == later.result == "served"


async def test_a_leaked_cancelled_is_a_failure(worker: Worker, autojump_clock: MockClock) -> None:
    """`trio.Cancelled` that is raised where nothing is cancelled is the job's own doing."""

    @worker.job(max_retries=0)
    async def work() -> None:
        kept: trio.Cancelled | None = None
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                kept = error
                raise
        assert kept is not None
        raise kept

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        neighbour = kit.enqueue("neighbour")
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.FAILED
    assert "Cancelled" in str(kit.occurrence(occurrence).exception)
    assert kit.occurrence(neighbour).result == "served"


async def test_an_error_text_without_end_is_cut(worker: Worker, autojump_clock: MockClock) -> None:
    """A megabyte of exception reaches the API as 64 kB (RELIABILITY.md 2.6, W5)."""

    @worker.job(max_retries=0)
    async def work() -> None:
        raise ValueError("x" * 1_000_000)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert len(str(kit.occurrence(occurrence).exception).encode()) <= 64 * 1024


# --- time to clean up -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("budget", "allowed"), [(2.0, 2.0), (60.0, 5.0), (None, 5.0)])
async def test_cleanup_is_shielded_and_ends_with_its_budget(
    worker: Worker, autojump_clock: MockClock, budget: float | None, allowed: float
) -> None:
    """`ctx.cleanup(budget)` has a deadline of its own, capped by the worker's `cleanup_timeout` of 5 s."""
    took: list[float] = []

    @worker.job()
    async def work(ctx: JobContext) -> None:
        try:
            await trio.sleep_forever()
        finally:
            began = trio.current_time()
            async with ctx.cleanup(budget):
                await trio.sleep_forever()
            took.append(trio.current_time() - began)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(1)
        kit.cancel(occurrence)
        await kit.run_until_idle()

    assert took == [allowed]
    assert kit.occurrence(occurrence).status is OccurrenceStatus.CANCELLED


async def test_cleanup_that_ends_in_time_is_not_disturbed(worker: Worker, autojump_clock: MockClock) -> None:
    """What is awaited inside goes on although the job is cancelled."""
    cleaned_up = False

    @worker.job()
    async def work(ctx: JobContext) -> None:
        nonlocal cleaned_up
        try:
            await trio.sleep_forever()
        finally:
            async with ctx.cleanup():
                await trio.sleep(4)
                cleaned_up = True

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(1)
        kit.cancel(occurrence)
        await kit.run_until_idle()

    assert cleaned_up
    assert kit.occurrence(occurrence).status is OccurrenceStatus.CANCELLED
