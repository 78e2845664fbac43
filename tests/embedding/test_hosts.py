"""A worker in programs of every kind: it starts, fails, drains and is cancelled there as the host expects."""

import asyncio
import contextlib
import contextvars
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
from tests.support.hosts import Host, Open, embedded_worker, in_every_asyncio_host, in_every_host, until
from tests.support.servers import HOST, free_port

from milvaion_trio import BrokerUnreachable, SettingsError, Worker, WorkerSettings
from milvaion_trio.embed import asyncio_host, serving
from milvaion_trio.model.errors import MilvaionError
from milvaion_trio.model.events import Event, JobConcluded
from milvaion_trio.model.settings import RabbitMQSettings

CYCLES = 100


@in_every_host
def test_a_hundred_starts_and_stops_leave_nothing_behind(host: Host) -> None:
    """No thread, no task, no socket; whether it was drained or cancelled, and a job ran in each."""
    worker = embedded_worker()
    ran: list[int] = []

    @worker.job()
    async def work(number: int) -> None:
        ran.append(number)

    async def scenario() -> None:
        before = Open.now(host)
        for number in range(CYCLES):
            if number % 4 < 2:
                async with serving(worker):
                    await work.enqueue(number)
            else:
                async with host.task_group(worker) as cancel:
                    await work.enqueue(number)
                    await until(partial(ran.__contains__, number))
                    worker.drain() if number % 4 == 2 else cancel()
        after = Open.now(host)

        assert after == before

    host.run(scenario)
    assert ran == list(range(CYCLES))


# --- errors ---------------------------------------------------------------------------------------------------------


def failing_at(moment: str) -> Worker:
    """A worker whose lifespan raises when it is entered, while it serves, or when it is left."""
    worker = embedded_worker()

    @worker.job()
    async def work() -> None:
        pass

    async def fail_soon() -> None:
        await trio.sleep(0.05)
        raise ZeroDivisionError(moment)

    @worker.lifespan
    @contextlib.asynccontextmanager
    async def lifespan(_: Worker) -> AsyncIterator[None]:
        if moment == "start":
            raise ZeroDivisionError(moment)
        async with trio.open_nursery() as nursery:
            if moment == "serving":
                nursery.start_soon(fail_soon)
            yield
        if moment == "end":
            raise ZeroDivisionError(moment)

    return worker


@in_every_host
@pytest.mark.parametrize("moment", ["start", "serving", "end"])
def test_an_error_reaches_the_host_once_as_itself(
    host: Host, moment: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """In no group, with the line that raised it in its traceback; and nobody logs or prints it besides."""
    worker = failing_at(moment)

    async def scenario() -> None:
        async with serving(worker):
            if moment == "serving":
                await anyio.sleep_forever()

    began = time.monotonic()
    with pytest.raises(ZeroDivisionError, match=moment) as caught:
        host.run(scenario)

    assert time.monotonic() - began < 10, "the block was not cancelled"
    assert any(entry.frame.code.raw.co_filename == __file__ for entry in caught.traceback[-1:])
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@in_every_host
def test_awaiting_serve_raises_it_as_itself(host: Host) -> None:
    with pytest.raises(ZeroDivisionError):
        host.run(failing_at("serving").serve)


@in_every_host
def test_a_task_group_of_the_host_gets_one_error(host: Host) -> None:
    """Its own group around it, as around every error of its tasks, and none of ours inside."""

    async def scenario() -> None:
        async with host.task_group(failing_at("serving")):
            await anyio.sleep(5)

    with pytest.raises(ExceptionGroup) as caught:
        host.run(scenario)

    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


@in_every_host
def test_a_broker_that_cannot_be_reached_is_told_at_the_start(host: Host) -> None:
    rabbitmq = RabbitMQSettings(host=HOST, port=free_port())
    worker = Worker(settings=WorkerSettings(rabbitmq=rabbitmq, startup_connection_timeout=0.1), observers=())
    worker.job("Work")(failing_at)

    async def scenario() -> None:
        before = Open.now(host)
        for _ in range(3):
            with pytest.raises(BrokerUnreachable):
                async with serving(worker):
                    pytest.fail("it is not there")
        after = Open.now(host)

        assert (after.threads, after.tasks) == (before.threads, before.tasks)

    host.run(scenario)


@in_every_host
def test_a_worker_serves_once_at_a_time(host: Host) -> None:
    async def scenario() -> None:
        async with serving(embedded_worker()) as worker:
            with pytest.raises(SettingsError, match="serves already"):
                await worker.serve()

    host.run(scenario)


@in_every_host
def test_an_error_of_the_block_comes_out_as_it_is(host: Host) -> None:
    """Also a group of one, and the worker's own error has it as its context."""

    async def scenario(worker: Worker) -> None:
        async with serving(worker):
            raise ExceptionGroup("the block's", [KeyError("block")])

    with pytest.raises(ExceptionGroup, match="the block's"):
        host.run(lambda: scenario(embedded_worker()))

    with pytest.raises(ZeroDivisionError) as caught:
        host.run(lambda: scenario(failing_at_any_end()))
    contexts = [caught.value.__context__]
    while contexts[-1] is not None:
        contexts.append(contexts[-1].__context__)
    assert any(isinstance(context, ExceptionGroup) for context in contexts)


def failing_at_any_end() -> Worker:
    worker = embedded_worker()

    @worker.lifespan
    @contextlib.asynccontextmanager
    async def lifespan(_: Worker) -> AsyncIterator[None]:
        try:
            yield
        finally:
            raise ZeroDivisionError

    return worker


@in_every_asyncio_host
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_job_cannot_end_the_host(host: Host, kind: type[BaseException]) -> None:
    """It has failed, and the worker goes on."""
    worker = embedded_worker()
    ended: list[object] = []

    @worker.observe
    def watch(event: Event) -> None:
        if isinstance(event, JobConcluded):
            ended.append(event)

    @worker.job(max_retries=0)
    async def work(fails: bool) -> None:
        if fails:
            raise kind

    async def scenario() -> None:
        async with serving(worker):
            await work.enqueue(True)
            await work.enqueue(False)
            await until(lambda: len(ended) == 2)

    host.run(scenario)


@in_every_asyncio_host
def test_a_lifespan_can_end_the_host(host: Host) -> None:
    """What the host would see if it ran Trio."""
    worker = embedded_worker()

    @worker.lifespan
    @contextlib.asynccontextmanager
    async def lifespan(_: Worker) -> AsyncIterator[None]:
        yield
        raise SystemExit(3)

    async def scenario() -> None:
        async with serving(worker):
            pass

    with pytest.raises(SystemExit, match="3"):
        host.run(scenario)


# --- cancellation ---------------------------------------------------------------------------------------------------


@in_every_host
def test_cancelling_the_host_ends_within_the_budget(host: Host) -> None:
    """A running job gets its clean-up; the host goes on when that is over, not before."""
    running, cleaned = threading.Event(), threading.Event()
    worker = embedded_worker()

    @worker.job()
    async def work() -> None:
        running.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.2)
            cleaned.set()

    async def scenario() -> float:
        with anyio.CancelScope() as scope:
            async with serving(worker):
                await work.enqueue()
                await until(running.is_set)
                began = time.monotonic()
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        return time.monotonic() - began

    took = host.run(scenario)

    assert cleaned.is_set()
    assert 0.2 <= took < 0.3 + 0.3 + 1.0


@in_every_asyncio_host
@pytest.mark.parametrize("how", ["shielded", "blocking"])
@pytest.mark.parametrize("left", ["cancelled", "drained"])
def test_a_job_that_ignores_its_cancellation_is_left_behind(
    host: Host, how: str, left: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in a thread can keep the host: not a job that never ends, not one that blocks Trio's thread."""
    monkeypatch.setattr(asyncio_host, "GRACE", 0.4)
    running, release = threading.Event(), threading.Event()
    worker = embedded_worker(drain=0.1, cleanup=0.1, flush=0.1)

    @worker.job()
    async def work() -> None:
        running.set()
        if how == "blocking":
            release.wait(20)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(release.wait, 20)

    async def scenario() -> float:
        await anyio.lowlevel.checkpoint()
        with anyio.CancelScope() as scope:
            async with serving(worker):
                await work.enqueue()
                await until(running.is_set)
                began = time.monotonic()
                if left == "cancelled":
                    scope.cancel()
                    await anyio.sleep_forever()
        return time.monotonic() - began

    try:
        took = host.run(scenario)
        threads = [thread for thread in threading.enumerate() if thread.name == "worker hosted"]
    finally:
        release.set()

    assert 0.6 <= took < 1.5
    assert "is left behind" in caplog.text
    assert len(threads) == 1
    threads[0].join(5)
    assert not threads[0].is_alive()


def test_cancelling_again_and_again_changes_nothing() -> None:
    """The worker still leaves in order; then the task is cancelled."""
    cleaned = threading.Event()
    running = threading.Event()
    worker = embedded_worker()

    @worker.job()
    async def work() -> None:
        running.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.2)
            cleaned.set()

    async def main() -> None:
        task = asyncio.create_task(worker.serve())
        await until(lambda: worker.trio_token is not None)
        await work.enqueue()
        await until(running.is_set)
        while not task.done():
            task.cancel()
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert cleaned.is_set()


def test_a_failure_leaves_the_host_uncancelled() -> None:
    """The block is cancelled for it, and that must not count for whoever is cancelled around it."""

    async def block(ignored: tuple[type[BaseException], ...]) -> None:
        async with serving(failing_at("serving")):
            with contextlib.suppress(*ignored):
                await asyncio.sleep(20)

    async def main() -> None:
        for ignored in ((), (asyncio.CancelledError,)):
            with pytest.raises(ZeroDivisionError):
                await block(ignored)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    asyncio.run(main())


def test_a_timeout_of_the_host_is_a_timeout() -> None:
    """What holds the cancellation back must not confuse who asked for it."""

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await embedded_worker().serve()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), serving(embedded_worker()):
                await asyncio.sleep(5)

    asyncio.run(main())


@in_every_asyncio_host
def test_waiting_for_the_worker_costs_no_processor(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """AnyIO cancels a task again in every pass of its loop until a scope of its own shields it."""
    running = threading.Event()
    worker = embedded_worker()
    waits = 0
    wait = asyncio.wait

    async def counted_wait(*args: Any, **kwargs: Any) -> Any:
        nonlocal waits
        waits += 1
        return await wait(*args, **kwargs)

    @worker.job()
    async def work() -> None:
        running.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.1)

    async def scenario() -> None:
        async with host.task_group(worker) as cancel:
            await work.enqueue()
            await until(running.is_set)
            monkeypatch.setattr(asyncio, "wait", counted_wait)
            cancel()

    host.run(scenario)

    assert 1 <= waits < 10


@in_every_asyncio_host
def test_a_host_that_gives_up_during_the_start_leaves_nothing(host: Host) -> None:
    async def scenario() -> None:
        before = Open.now(host)
        for patience in (0.0, 0.001, 0.003, 0.01):
            with anyio.move_on_after(patience):
                async with serving(embedded_worker()):
                    await anyio.sleep_forever()
        assert Open.now(host) == before

    host.run(scenario)


# --- drain, signals, context ----------------------------------------------------------------------------------------


@in_every_host
def test_another_thread_can_drain_it(host: Host) -> None:
    async def scenario() -> None:
        worker = embedded_worker()
        async with host.task_group(worker):
            threading.Timer(0.01, worker.drain).start()

    host.run(scenario)


@in_every_host
def test_signals_are_left_alone(host: Host) -> None:
    async def scenario() -> None:
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        async with serving(embedded_worker()):
            during = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        assert during == before

    host.run(scenario)


@in_every_asyncio_host
def test_signals_are_handled_when_asked(host: Host) -> None:
    """The first drains: the running job may end. The handlers of before come back."""
    running, ended = threading.Event(), threading.Event()
    worker = embedded_worker()

    @worker.job()
    async def work() -> None:
        running.set()
        await trio.sleep(0.1)
        ended.set()

    async def scenario() -> None:
        before = signal.getsignal(signal.SIGTERM)
        async with serving(worker, handle_signals=True):
            await work.enqueue()
            await until(running.is_set)
            assert signal.getsignal(signal.SIGTERM) is not before
            signal.raise_signal(signal.SIGTERM)
            await until(lambda: worker.trio_token is None)
        assert signal.getsignal(signal.SIGTERM) is before

    host.run(scenario)

    assert ended.is_set()


@in_every_asyncio_host
def test_the_second_signal_cancels(host: Host) -> None:
    """And serving returns: it was told to leave, not cancelled by its host."""
    running = threading.Event()
    worker = embedded_worker(drain=30)

    @worker.job()
    async def work() -> None:
        running.set()
        await trio.sleep_forever()

    async def scenario() -> None:
        async with serving(worker, handle_signals=True):
            await work.enqueue()
            await until(running.is_set)
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)

    host.run(scenario)


def test_signals_in_another_thread_are_refused() -> None:
    errors: list[BaseException] = []

    def other_thread() -> None:
        try:
            asyncio.run(embedded_worker().serve(handle_signals=True))
        except MilvaionError as error:
            errors.append(error)

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join(10)

    assert "main thread only" in str(errors[0])


@in_every_host
def test_jobs_see_the_context_of_who_serves(host: Host) -> None:
    """As tasks of a nursery do; tracing relies on it."""
    variable = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []
    worker = embedded_worker()

    @worker.job()
    async def work() -> None:
        seen.append(variable.get())

    async def scenario() -> None:
        variable.set("the host's")
        async with serving(worker):
            await work.enqueue()

    host.run(scenario)

    assert seen == ["the host's"]


# --- a host that ends first -----------------------------------------------------------------------------------------


def test_a_worker_ends_when_the_loop_of_its_host_is_closed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody cancels it and nobody waits; it must not serve for ever in a forgotten thread."""
    monkeypatch.setattr("milvaion_trio.embed.trio_thread.HOST_LOOKS", 0.01)
    loop = asyncio.new_event_loop()
    task = loop.create_task(embedded_worker().serve())
    loop.run_until_complete(asyncio.sleep(0.05))
    (thread,) = (each for each in threading.enumerate() if each.name == "worker hosted")
    loop.close()

    thread.join(5)

    assert not thread.is_alive()
    assert "was closed before" in caplog.text
    task.get_coro().close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]


FORGETFUL = """
import asyncio, signal, sys, time
import trio
from milvaion_trio import Worker
from milvaion_trio.embed import serving

worker = Worker("forgotten", observers=())

@worker.job()
async def work() -> None:
    print("running", flush=True)
    try:
        if sys.argv[1] == "blocked":
            time.sleep(60)
        await trio.sleep_forever()
    finally:
        print("cleaned up", flush=True)

async def main() -> None:
    async with serving(worker, handle_signals=True):
        await work.enqueue()
        await asyncio.sleep(0.2 if sys.argv[1] == "forgotten" else 60)

loop = asyncio.new_event_loop()
task = loop.create_task(main())
loop.run_until_complete(asyncio.sleep(0.2) if sys.argv[1] == "forgotten" else task)
if sys.argv[1] == "forgotten":
    task._log_destroy_pending = False
"""


def test_a_program_that_forgets_its_worker_ends() -> None:
    """The loop is neither run on nor closed: the worker leaves with the process, and its jobs clean up."""
    command = [sys.executable, "-W", "ignore", "-c", FORGETFUL, "forgotten"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert (done.stdout.split("\n"), done.returncode) == (["running", "cleaned up", ""], 0), done.stderr


def test_the_third_signal_leaves_at_once() -> None:
    """Also while a job blocks the worker's thread."""
    command = [sys.executable, "-c", FORGETFUL, "blocked"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            time.sleep(0.1)  # two signals of one kind that come together are one
            process.send_signal(number)

        assert process.wait(10) == 130


@in_every_host
def test_left_normally_running_jobs_end(host: Host) -> None:
    """`serving` drains: what runs gets its time, and is not cancelled."""
    worker, seen = embedded_worker(drain=5), list[str]()

    @worker.job()
    async def work() -> None:
        seen.append("began")
        await trio.sleep(0.3)
        seen.append("ended")

    async def scenario() -> None:
        async with serving(worker):
            await work.enqueue()
            await until(lambda: bool(seen))

    host.run(scenario)

    assert seen == ["began", "ended"]
