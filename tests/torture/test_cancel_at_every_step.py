"""A cancel at every step of the scheduler in a job's life: its end is Cancelled or the natural one, never both or none.

The moments that worker processes are hit at by chance in T15, all of them, in virtual time.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import pytest
import trio
from tests.support.steps import passes
from tests.support.virtual import virtual
from tests.support.workers import story

from milvaion_trio import JobContext, Worker
from milvaion_trio.testing import under_test

STEPS: Final = 40
"""More than any part of the life takes without waiting."""
FINALS: Final = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
DELAY: Final = 3.0
"""Seconds until the retry."""

Life: TypeAlias = Callable[[JobContext], Awaitable[str]]


async def returns(ctx: JobContext) -> str:
    """The shortest."""
    await trio.lowlevel.checkpoint()
    return "done"


async def cleans_up(ctx: JobContext) -> str:
    """It uses what it is allowed when it is cancelled."""
    try:
        await trio.sleep(1)
    finally:
        async with ctx.cleanup():
            await trio.sleep(1)
    return "done"


async def fails_once(ctx: JobContext) -> str:
    """Its second attempt is on a delay for a while."""
    if ctx.attempt == 1:
        raise OSError("not yet")
    return "done"


def worker_of(life: Life, runs: list[int]) -> Worker:
    worker = Worker("tests", observers=())

    @worker.job("Work", max_parallel=1, max_retries=1, base_retry_delay=DELAY)
    async def job(ctx: JobContext) -> str:
        runs.append(ctx.attempt)
        return await life(ctx)

    return worker


async def ending(life: Life, at: float, step: int, *, queued: bool) -> str:
    """The one final status of a job that is cancelled so many steps after that second."""
    runs: list[int] = []
    async with under_test(worker_of(life, runs)) as kit:
        if queued:
            kit.enqueue("Work")
        occurrence = kit.enqueue("Work")
        await trio.sleep(at)
        await passes(step)
        kit.cancel(occurrence)
        kit.cancel(occurrence)
        await kit.run_until_idle()

    told = [word for word in story(kit, occurrence) if word != "logs"]
    finals = [word for word in told if word in FINALS]
    assert len(finals) == 1, (at, step, told)
    assert told[-1] == finals[0], (at, step, told)
    assert finals[0] in {"COMPLETED", "CANCELLED"}, (at, step, told)
    return finals[0]


@pytest.mark.long
@pytest.mark.parametrize(
    ("life", "times", "queued"),
    [
        (returns, (0.0,), False),
        (cleans_up, (0.0, 1.0, 2.0), False),
        (fails_once, (0.0, 2.0, DELAY), False),
        (cleans_up, (0.0, 2.0, 4.0), True),
    ],
    ids=["returns", "cleans up", "fails once", "waits for a slot"],
)
def test_a_cancel_at_any_step_leads_to_one_end(life: Life, times: tuple[float, ...], queued: bool) -> None:
    """Early ones cancel, late ones do not, and each of them leaves the queue empty."""
    found = [[virtual_ending(life, at, step, queued=queued) for step in range(STEPS)] for at in times]

    counts = Counter(word for words in found for word in words)
    assert found[0][0] == "CANCELLED"
    assert found[-1][-1] == "COMPLETED"
    assert set(counts) == {"CANCELLED", "COMPLETED"}


def virtual_ending(life: Life, at: float, step: int, *, queued: bool) -> str:
    async def run() -> str:
        with trio.fail_after(3600):
            return await ending(life, at, step, queued=queued)

    return virtual(run)
