"""Jobs that write down what they do, for a dev worker that is killed again and again: `test_dev_restarts`."""

import os
from pathlib import Path

import trio
from attrs import frozen

from milvaion_trio import JobContext, PermanentFailure, Worker
from milvaion_trio.model.settings import HeartbeatSettings, WorkerSettings

worker = Worker(settings=WorkerSettings(worker_id="restarts", heartbeat=HeartbeatSettings(interval=1.0)))

RAN = Path(os.environ["RESTARTS_RAN"])
"""A line for each thing that a job did."""


@frozen
class Numbered:
    """Which one of its kind, and how long it takes."""

    number: int
    seconds: float = 0.0


def note(*words: object) -> None:
    """Write a line, all of it or nothing, that outlives this process."""
    line = " ".join(map(str, words)) + "\n"
    file = os.open(RAN, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line.encode())
    os.close(file)


@worker.job(max_parallel=1)
async def steady(ctx: JobContext, data: Numbered) -> int:
    """One at a time, so that the others wait in their queue."""
    note("steady-begins", data.number)
    await trio.sleep(data.seconds)
    note("steady-ends", data.number)
    return data.number


@worker.job(max_retries=3, base_retry_delay=0.4)
async def flaky(ctx: JobContext, data: Numbered) -> None:
    """Fails but for the third time."""
    note("flaky", data.number, ctx.attempt)
    if ctx.attempt < 3:
        raise ValueError(f"attempt {ctx.attempt} of {data.number}")


@worker.job()
async def hopeless(data: Numbered) -> None:
    """Fails for good."""
    note("hopeless", data.number)
    raise PermanentFailure("on purpose")


@worker.job()
async def late(data: Numbered) -> None:
    """For those that are enqueued with a delay."""
    note("late", data.number)


@worker.every(0.3, overlap="allow", misfire="all", grace=0.3)
@worker.job("tick", max_parallel=1)
async def tick(ctx: JobContext) -> None:
    """Each of its ticks is an occurrence with an id of its own."""
    note("tick", ctx.occurrence_id)
