"""What blocks the event loop is told while it does, by the name of the job. In real time, as a blocked loop is."""

import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import wraps

import pytest
import trio

from milvaion_trio import Job, Worker
from milvaion_trio.runtime import lookout
from milvaion_trio.testing import under_test

SOON = 20.0
GOES_ON = "the event loop goes on, after"


class Log(logging.Handler):
    """What the watch says, also while the loop of the test is blocked."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.told = threading.Event()
        self.went_on = threading.Event()
        self.lines: list[str] = []
        self.patience = time.monotonic() + SOON

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if line.startswith("the event loop"):
            self.lines.append(line)
            (self.went_on if line.startswith(GOES_ON) else self.told).set()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    """Told after a moment, where a worker takes seconds."""
    monkeypatch.setattr(lookout, "INTERVAL", 0.05)
    monkeypatch.setattr(lookout, "LOOK", 0.2)
    log = Log()
    caplog.set_level(logging.INFO, "milvaion_trio.runtime")
    logger = logging.getLogger("milvaion_trio.runtime")
    logger.addHandler(log)
    yield log
    logger.removeHandler(log)


async def all_that_was_told(worker: Worker, log: Log, *jobs: str) -> str:
    """Run these jobs; the one warning, which came while the loop was blocked, without what all of them say."""
    async with under_test(worker) as kit:
        for job in jobs:
            kit.enqueue(job)
        with trio.fail_after(SOON):
            await kit.run_until_idle()
            await trio.to_thread.run_sync(log.went_on.wait, SOON)
    warning, end = log.lines
    assert end.startswith(GOES_ON)
    return warning.partition(" by ")[2].partition(": no other job")[0]


async def test_a_job_that_blocks_the_loop_is_named_and_where_it_stands(worker: Worker, log: Log) -> None:
    """And not the one that only waits beside it."""
    go = trio.Event()

    @worker.job("Waits")
    async def waits() -> None:
        await go.wait()

    @worker.job("SendMail")
    async def send_mail() -> None:
        await trio.sleep(0.1)
        while not log.told.is_set() and time.monotonic() < log.patience:
            time.sleep(0.01)  # noqa: ASYNC251  # the mistake itself
        go.set()

    told = await all_that_was_told(worker, log, "Waits", "SendMail")

    assert told.startswith(f"job SendMail ({__file__}, line ")
    assert "Waits" not in told


async def test_that_the_loop_goes_on_is_not_said_before_it_does(worker: Worker, log: Log) -> None:
    """A long block is one warning, and one end."""
    early: list[bool] = []

    @worker.job("Long")
    async def long() -> None:
        log.told.wait(SOON)
        time.sleep(1.0)  # noqa: ASYNC251  # the mistake itself; five looks long
        early.append(log.went_on.is_set())

    await all_that_was_told(worker, log, "Long")

    assert early == [False]


async def test_of_several_jobs_with_one_function_those_are_named_that_run(worker: Worker, log: Log) -> None:
    async def both() -> None:
        log.told.wait(SOON)

    worker.job("First")(both)
    worker.job("Second")(both)

    told = await all_that_was_told(worker, log, "First")

    assert told.startswith("job First (")


async def test_a_job_that_another_one_calls_is_not_taken_for_one_that_runs(worker: Worker, log: Log) -> None:
    @worker.job("Inner")
    async def inner() -> None:
        log.told.wait(SOON)

    @worker.job("Outer")
    async def outer() -> None:
        await inner()

    told = await all_that_was_told(worker, log, "Outer")

    assert told.startswith(f"job Outer ({__file__}, line ")
    assert ", in " in told


async def test_a_wrapper_that_blocks_is_a_job_s_function_too(worker: Worker, log: Log) -> None:
    def slowly(function: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        @wraps(function)
        async def wrapped() -> None:
            log.told.wait(SOON)
            await function()

        return wrapped

    @worker.job("Wrapped")
    @slowly
    async def inner() -> None:
        await trio.lowlevel.checkpoint()

    told = await all_that_was_told(worker, log, "Wrapped")

    assert told.startswith("job Wrapped (")


async def test_the_call_that_blocks_is_told_behind_the_line_of_the_job(worker: Worker, log: Log) -> None:
    """Of a class too; what blocks is rarely in the job's own file."""

    @worker.job("Fetch")
    class Fetch(Job):
        async def execute(self) -> None:
            log.told.wait(SOON)

    told = await all_that_was_told(worker, log, "Fetch")

    assert told.startswith(f"job Fetch ({__file__}, line ")
    assert ", in " in told
    assert "threading.py, line " in told


async def test_where_no_job_s_function_blocks_the_place_and_the_running_jobs_are_told(worker: Worker, log: Log) -> None:
    """A task that a job has started stands on no job's stack."""

    async def child() -> None:
        while not log.told.is_set() and time.monotonic() < log.patience:
            time.sleep(0.01)  # noqa: ASYNC251  # the mistake itself

    @worker.job("Crawl")
    async def crawl() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    told = await all_that_was_told(worker, log, "Crawl")

    assert told.startswith(f"{__file__}, line ")
    assert told.endswith("which is in no job's own function (jobs that run on it: Crawl)")


async def test_a_thread_that_works_is_no_blocked_loop(worker: Worker, log: Log) -> None:
    """A plain `def` may take its time."""

    @worker.job()
    def work() -> None:
        log.told.wait(1.5)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        with trio.fail_after(SOON):
            await kit.run_until_idle()

    assert log.lines == []
