"""How much of a job is reported: `reporting.mode` and `reporting.running_after`."""

import pytest
import trio
from attrs import evolve
from tests.support.workers import at, job_message
from trio.testing import MockClock

from milvaion_trio import PermanentFailure, Worker
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings import ReportingSettings
from milvaion_trio.runtime.late_starts import LateStarts
from milvaion_trio.runtime.run import Run
from milvaion_trio.testing import WorkerUnderTest, under_test

RUNNING, COMPLETED = OccurrenceStatus.RUNNING, OccurrenceStatus.COMPLETED


def reporting(worker: Worker, settings: ReportingSettings) -> Worker:
    worker.settings = evolve(worker.settings, reporting=settings)
    return worker


def told(kit: WorkerUnderTest) -> list[int]:
    return [update.status for update in kit.statuses]


async def test_a_job_that_ends_soon_is_reported_as_ended_only(worker: Worker, autojump_clock: MockClock) -> None:
    """Its final status says when it began, as the Running that was not sent would have."""

    @reporting(worker, ReportingSettings(running_after=1)).job()
    async def work() -> None:
        await trio.sleep(0.5)

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()
        await trio.sleep(5)

    (completed,) = kit.statuses
    assert completed.status is COMPLETED
    assert (completed.start_time, completed.end_time) == (at(0), at(0.5))


async def test_a_job_that_goes_on_is_reported_as_running(worker: Worker, autojump_clock: MockClock) -> None:
    """Once, within one and a half times the delay, and before its end."""
    sent_at: list[float] = []

    @reporting(worker, ReportingSettings(running_after=1)).job()
    async def work() -> None:
        await trio.sleep(1.6)
        sent_at.extend(1.6 for status in told(kit) if status is RUNNING)
        await trio.sleep(1)

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()

    assert sent_at == [1.6]
    assert told(kit) == [RUNNING, COMPLETED]
    assert kit.statuses[0].start_time == kit.statuses[1].start_time


async def test_what_ended_is_not_kept_until_it_would_have_been_told(
    worker: Worker, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither it nor a timer for it. Sabotage: keep it, or never wait for the next again."""
    made: list[LateStarts] = []
    begun = LateStarts.begun

    def noted(starts: LateStarts, run: Run) -> None:
        made.append(starts)
        begun(starts, run)

    monkeypatch.setattr(LateStarts, "begun", noted)

    @reporting(worker, ReportingSettings(running_after=60)).job()
    async def work() -> None: ...

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()
        held = dict(made[0]._held)
        await trio.sleep(100)
        waits = not made[0]._some.is_set()

    assert held == {}
    assert waits


async def test_by_default_running_is_said_at_once(worker: Worker, autojump_clock: MockClock) -> None:
    @worker.job()
    async def work() -> None: ...

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()

    assert told(kit) == [RUNNING, COMPLETED]


async def test_of_unreported_jobs_nobody_hears_and_each_is_done(worker: Worker, autojump_clock: MockClock) -> None:
    """Retries go on, and messages are acked when their jobs are over."""
    runs: list[str] = []

    @reporting(worker, ReportingSettings(mode="none", local_occurrences=True)).job()
    async def work(data: str) -> None:
        runs.append(data)
        if data == "wrong":
            raise PermanentFailure("never")
        if runs.count(data) == 1:
            raise RuntimeError("again")

    async with under_test(worker) as kit:
        kit.enqueue(work, "right")
        kit.enqueue(work, "wrong")
        await kit.run_until_idle()
        left = (len(kit.queue(work).ready), kit.queue(work).unacked)

    assert sorted(runs) == ["right", "right", "wrong"]
    assert told(kit) == []
    assert kit.logs == ()
    assert left == (0, 0)
