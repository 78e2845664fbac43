"""Jobs in asyncio: the same life as any job, on one loop, and nothing of asyncio's gets out of it."""

import asyncio
import contextlib
import gc
import sys
import threading
from collections.abc import AsyncIterator, Callable

import pytest
import trio
from attrs import evolve
from tests.support.processes import until

from milvaion_trio import JobContext, PermanentFailure, SettingsError, Worker, current_job
from milvaion_trio.model.events import WorkerStopped
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings import ShutdownSettings
from milvaion_trio.testing import run_job, under_test

SOON = 5.0


@pytest.fixture
def worker(worker: Worker) -> Worker:
    """Cancelled jobs get a fifth of a second to clean up."""
    budgets = ShutdownSettings(drain_timeout=0.1, cleanup_timeout=0.2, flush_timeout=1)
    worker.settings = evolve(worker.settings, shutdown=budgets)
    return worker


async def test_a_coroutine_function_runs_on_asyncio_and_is_reported_like_any_job(worker: Worker) -> None:
    """Its loop, tasks, time limits and threads work, and the current job is found in all of them."""

    async def inner() -> str:
        async with asyncio.timeout(60):
            await asyncio.sleep(0.01)
        return current_job().occurrence_id

    @worker.job(run="asyncio")
    async def work(ctx: JobContext, data: int) -> list[bool]:
        ctx.progress(0.5, f"got {data}")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(inner()) for _ in range(3)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        found = [*(task.result() for task in tasks), await asyncio.to_thread(lambda: current_job().occurrence_id)]
        ctx.log.info("done", on=type(asyncio.get_running_loop()).__name__)
        return [each == ctx.occurrence_id for each in found]

    with trio.fail_after(SOON):
        async with under_test(worker) as kit:
            occurrence = kit.enqueue(work, 7)
            await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == "[true,true,true,true]"
    assert kit.occurrence(occurrence).messages == ("got 7", "done")


async def test_what_it_raises_keeps_its_meaning(worker: Worker) -> None:
    @worker.job(run="asyncio", max_retries=5)
    async def work() -> None:
        await asyncio.sleep(0)
        raise PermanentFailure("no use")

    ended = await run_job(work)

    assert ended.retry_delay is None
    assert "PermanentFailure" in (ended.error or "")
    assert "in work" in (ended.error or "")
    assert "coroutines.py" not in (ended.error or ""), "the frames of ours tell a job's author nothing"


async def test_code_for_trio_in_it_is_told_where_it_belongs(worker: Worker) -> None:
    """What asyncio says about it, "bad yield", says nothing to its author."""

    @worker.job(run="asyncio", max_retries=0)
    async def work() -> None:
        await trio.sleep_forever()

    with trio.fail_after(SOON):
        ended = await run_job(work)

    assert 'leave run="asyncio" out' in (ended.error or "")


@pytest.mark.parametrize("how", ["user", "timeout", "shutdown"])
async def test_being_told_to_stop_cancels_the_task_once_and_its_finally_blocks_run(worker: Worker, how: str) -> None:
    """And the reason decides the outcome, as in a task of Trio's (DESIGN.md 5, outcome)."""
    started = trio.Event()
    told: list[str] = []

    @worker.job(run="asyncio", timeout=0.1 if how == "timeout" else 0)
    async def work() -> None:
        started.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            told.append("cancelled")
            await asyncio.sleep(0.05)
            told.append("cleaned up")
            raise RuntimeError("on the way out") from None

    with trio.fail_after(SOON):
        async with under_test(worker) as kit:
            occurrence = kit.enqueue(work)
            await started.wait()
            if how == "user":
                kit.cancel(occurrence, "enough")
            if how == "shutdown":
                kit.stop()
                await kit.stopped()
            else:
                await kit.run_until_idle()

    assert told == ["cancelled", "cleaned up"]
    view = kit.occurrence(occurrence)
    if how == "shutdown":
        assert view.final is None
        assert len(kit.queue().ready) == 1
    else:
        expected = OccurrenceStatus.CANCELLED if how == "user" else OccurrenceStatus.TIMED_OUT
        assert view.status is expected
        assert "on the way out" in f"{view.result} {view.exception}"


async def test_a_job_that_is_cancelled_and_says_no_more_is_cancelled_without_an_error_text(worker: Worker) -> None:
    started = trio.Event()

    @worker.job(run="asyncio")
    async def work() -> None:
        started.set()
        await asyncio.sleep(3600)

    with trio.fail_after(SOON):
        async with under_test(worker) as kit:
            occurrence = kit.enqueue(work)
            await started.wait()
            kit.cancel(occurrence, "enough")
            await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == "work was cancelled: enough"


async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


async def raise_it() -> None:
    raise asyncio.CancelledError


async def raise_a_group() -> None:
    raise BaseExceptionGroup("cancelled", [asyncio.CancelledError(), ValueError("beside it")])


async def leave_the_program() -> None:
    raise SystemExit(3)


async def interrupt() -> None:
    raise KeyboardInterrupt


async def leave_from_a_task() -> None:
    await asyncio.create_task(leave_the_program())


async def await_trio() -> None:
    await trio.sleep(0.01)


@pytest.mark.parametrize(
    "behave",
    [cancel_itself, raise_it, raise_a_group, leave_the_program, interrupt, leave_from_a_task, await_trio],
)
async def test_whatever_it_raises_fails_that_job_alone(worker: Worker, behave: Callable[[], object]) -> None:
    """A cancellation that nobody recorded is a failure, and no asyncio.CancelledError gets out (RELIABILITY.md F23)."""
    worker.job("Zoo", run="asyncio", max_retries=0)(behave)
    go = asyncio.Event()

    @worker.job(run="asyncio")
    async def neighbour() -> str:
        await go.wait()
        return "undisturbed"

    with trio.fail_after(SOON):
        async with under_test(worker) as kit:
            beside = kit.enqueue(neighbour)
            bad = kit.enqueue("Zoo")
            await until(lambda: kit.occurrence(bad).final)
            go.set()
            after = kit.enqueue(neighbour)
            await kit.run_until_idle()

    assert kit.occurrence(bad).status is OccurrenceStatus.FAILED
    if behave in (cancel_itself, raise_it):
        assert "the asyncio task was cancelled, and nobody told the job to stop" in str(kit.occurrence(bad).exception)
    assert [kit.occurrence(each).result for each in (beside, after)] == ["undisturbed", "undisturbed"]


async def test_tasks_that_a_job_leaves_are_cancelled_waited_for_and_named(worker: Worker) -> None:
    """Also those of its tasks' tasks (RELIABILITY.md F24)."""
    ended: list[str] = []
    late: list[asyncio.Task[None]] = []

    async def linger(name: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            ended.append(name)

    async def make_others() -> None:
        asyncio.create_task(linger("grandchild"))  # noqa: RUF006  # the worker holds it
        try:
            await linger("child")
        finally:
            late.append(asyncio.create_task(linger("late")))

    @worker.job(run="asyncio")
    async def work() -> str:
        asyncio.create_task(make_others())  # noqa: RUF006
        await asyncio.sleep(0.01)
        return "done"

    with trio.fail_after(SOON):
        done = await run_job(work)

    assert done.result == "done"
    assert {"child", "grandchild"} <= set(ended)
    assert late[0].done()
    (warning,) = done.logs
    assert warning.message.startswith("The job ended and left 2 asyncio tasks running, which were cancelled: ")
    assert "linger" in warning.message


async def test_a_background_task_that_fails_is_told_and_ends_nothing(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("in the background")

    @worker.job(run="asyncio")
    async def work() -> str:
        asyncio.get_running_loop().call_soon(int, "no number")
        asyncio.create_task(fail())  # noqa: RUF006  # forgotten on purpose
        await asyncio.sleep(0.01)
        gc.collect()
        return "done"

    with trio.fail_after(SOON):
        done = await run_job(work)

    assert done.result == "done"
    assert "in the background" in caplog.text
    assert "invalid literal" in caplog.text


async def test_a_job_that_swallows_its_cancellation_keeps_its_slot(worker: Worker) -> None:
    """Cancelled is told after the grace; the next job starts when the task has really ended (RELIABILITY.md F22)."""
    started, go = trio.Event(), asyncio.Event()

    @worker.job(run="asyncio", max_parallel=1)
    async def work(data: int) -> str:
        started.set()
        while data == 1 and not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()
        return f"job {data}"

    with trio.fail_after(SOON):
        async with under_test(worker) as kit:
            first = kit.enqueue(work, 1)
            await started.wait()
            kit.cancel(first)
            second = kit.enqueue(work, 2)
            await until(lambda: kit.occurrence(first).final)
            await trio.sleep(0.05)
            assert kit.occurrence(second).statuses == ()

            go.set()
            await kit.run_until_idle()

    assert kit.occurrence(first).status is OccurrenceStatus.CANCELLED
    assert kit.occurrence(second).result == "job 2"


async def test_the_worker_leaves_although_tasks_swallow_every_cancellation(worker: Worker) -> None:
    """Its message goes back, and asyncio's loop is closed over it (LIBRARIES.md 1.5: leaving would hang for ever)."""
    started = trio.Event()
    told: list[WorkerStopped] = []
    worker.observe(lambda event: told.append(event) if isinstance(event, WorkerStopped) else None)

    async def go_on() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except BaseException:  # noqa: ASYNC103  # what this is about
                continue

    @worker.job(run="asyncio")
    async def work() -> None:
        asyncio.create_task(go_on())  # noqa: RUF006  # the worker holds it
        started.set()
        await go_on()

    with trio.fail_after(SOON):
        async with under_test(worker) as kit:
            kit.enqueue(work)
            await started.wait()
            kit.stop()
            await kit.stopped()

    assert len(kit.queue().ready) == 1
    assert told[-1].unstoppable_jobs == ("work",)
    assert kit.heartbeats[-1].is_stopping


async def test_a_thread_of_asyncio_that_does_not_end_holds_nobody_up(worker: Worker) -> None:
    """As in asyncio, whoever awaits `to_thread` is cancelled at once; the thread goes on."""
    started, go = threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        go.wait(10)

    @worker.job(run="asyncio")
    async def work() -> None:
        await asyncio.to_thread(block)

    with trio.fail_after(SOON):
        async with under_test(worker) as kit:
            occurrence = kit.enqueue(work)
            await trio.to_thread.run_sync(started.wait)
            kit.cancel(occurrence, "enough")
            await kit.run_until_idle()
            assert kit.occurrence(occurrence).result == "work was cancelled: enough"
    go.set()


async def test_a_generator_that_is_left_open_holds_nobody_up(worker: Worker) -> None:
    """asyncio closes those that are left when the loop closes; one that waits meanwhile would keep the worker."""
    kept: list[object] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(3600)

    @worker.job(run="asyncio")
    async def work() -> int:
        generator = numbers()
        kept.append(generator)
        async for number in generator:
            return number
        return 0

    with trio.fail_after(SOON):
        assert (await run_job(work)).result == "1"


async def test_it_dispatches_further_jobs(worker: Worker) -> None:
    """`enqueue` is Trio's, and finds its way from asyncio."""

    @worker.job()
    async def further(data: int) -> int:
        return data + 1

    @worker.job(run="asyncio")
    async def work() -> str:
        return await further.enqueue(2)

    with trio.fail_after(SOON):
        async with under_test(worker) as kit:
            first = kit.enqueue(work)
            await kit.run_until_idle()

    results = {kit.occurrence(view.occurrence_id).result for view in kit.statuses}
    assert len(results) == 2
    assert "3" in results
    assert kit.occurrence(first).status is OccurrenceStatus.COMPLETED


async def test_what_only_trio_can_do_says_so(worker: Worker) -> None:
    @worker.job(run="asyncio", max_retries=0)
    async def work(ctx: JobContext) -> None:
        async with ctx.cleanup():
            pass

    assert "asyncio.timeout(seconds)" in ((await run_job(work)).error or "")


def test_it_must_be_a_coroutine_function(worker: Worker) -> None:
    @worker.job(run="asyncio")
    def work() -> None: ...

    with pytest.raises(SettingsError, match='run="asyncio" but is no `async def`'):
        worker.prepare()


async def test_where_asyncio_cannot_be_bridged_the_start_says_so(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trio-asyncio cannot be imported on Python 3.14 (LIBRARIES.md 1.1)."""
    monkeypatch.setitem(sys.modules, "milvaion_trio.coroutines", None)
    worker.job("Fetch", run="asyncio")(raise_it)

    with pytest.raises(SettingsError, match=r"'Fetch' has run=.asyncio"):
        await worker.serve()
