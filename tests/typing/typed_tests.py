"""What a type checker says about the testing kit. Checked as `typed_jobs.py` is, never run."""

from typing import assert_type

from milvaion_trio import Client, Job, JobContext, StopReason, Worker, job
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import DeadLetter, StatusUpdate
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.testing import (
    VIRTUAL_START,
    JobRun,
    OccurrenceView,
    Published,
    WaitingRetry,
    WorkerUnderTest,
    run_job,
    under_test,
    virtual,
)

worker = Worker("tests")


@worker.job()
async def double(ctx: JobContext, number: int) -> int:
    return 2 * number


@job()
class Halve(Job):
    async def execute(self, ctx: JobContext) -> None: ...


class Plain(Job):
    async def execute(self, ctx: JobContext) -> None: ...


async def one_job() -> None:
    run = await run_job(double, 21, attempt=2, provided={int: 1}, cancel_after=5, cancel_reason=StopReason.TIMEOUT)
    assert_type(run, JobRun)
    assert_type(run.succeeded, bool)
    assert_type(run.result, str | None)
    assert_type(run.error, str | None)
    assert_type(run.retry_delay, float | None)
    assert_type(run.duration, float)
    assert_type(await run_job(Halve), JobRun)
    assert_type(await run_job(Plain), JobRun)
    await run_job("double", 21)  # type: ignore[arg-type] # refused
    await run_job(double, 21, 2)  # type: ignore[call-arg] # refused
    await run_job(double, 21, atempt=2)  # type: ignore[call-arg] # refused
    await run_job(double, 21, cancel_reason="timeout")  # type: ignore[arg-type] # refused


async def a_whole_worker() -> None:
    async with under_test(worker, broker=EmbeddedBroker()) as kit:
        assert_type(kit, WorkerUnderTest)
        occurrence_id = kit.enqueue(double, 21, delay=60)
        assert_type(occurrence_id, OccurrenceId)
        assert_type(kit.enqueue("double", 21), OccurrenceId)
        assert_type(kit.cancel(occurrence_id), None)
        await kit.run_until_idle(within=3600)
        assert_type(kit.published, list[Published])
        assert_type(kit.retries, tuple[WaitingRetry, ...])
        assert_type(kit.dead_letters, tuple[DeadLetter, ...])
        seen = kit.occurrence(occurrence_id)
        assert_type(seen, OccurrenceView)
        assert_type(seen.status, OccurrenceStatus | int)
        assert_type(seen.statuses, tuple[StatusUpdate, ...])
        assert_type(seen.result, str | None)
        await kit.enqueue(double, 21)  # type: ignore[misc] # refused: it is done at once
        kit.enqueue(21)  # type: ignore[arg-type] # refused
        kit.cancel("not an id of an occurrence")  # type: ignore[arg-type] # refused
        kit.run_until_idle()  # type: ignore[unused-coroutine] # refused
    async with under_test(worker, broker=Client):  # type: ignore[arg-type] # refused
        pass
    with under_test(worker):  # type: ignore[attr-defined] # refused
        pass


def in_virtual_time() -> None:
    assert_type(virtual(run_job, double, 21), JobRun)
    assert_type(VIRTUAL_START.plus(5), Instant)
    virtual(double.name)  # type: ignore[arg-type] # refused
