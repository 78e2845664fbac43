"""A Milvaion API is content with everything that a worker publishes, whatever becomes of its jobs.

The judge is `ApiModel`, which shares no code with the worker.
"""

from collections.abc import Mapping
from typing import Any

import pytest
import trio
from attrs import evolve
from tests.support.api_model import ApiModel, FailureType, OccurrenceStatus, Rule
from tests.support.api_model.publications import replay
from tests.support.api_model.topology import HEARTBEATS, REGISTRATIONS
from tests.support.workers import JOB_ID, OCCURRENCE, guid, job_message
from trio.testing import MockClock

from milvaion_trio import JobContext, PermanentFailure, Snooze, Worker
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.testing import VIRTUAL_START, WorkerUnderTest, under_test

NASTY = 'NUL \0, lone surrogate \ud800, astral \U0001f600, quotes " \\ \u2028, BOM \ufeff'


def judged(kit: WorkerUnderTest, *occurrences: OccurrenceId) -> ApiModel:
    """The API after all that was published, which must have been content."""
    api = ApiModel()
    api.register_job(JOB_ID, "work", display_name="A job")
    start = VIRTUAL_START.to_datetime().timestamp()
    for occurrence in occurrences or (OCCURRENCE,):
        api.queued(occurrence, JOB_ID, start)
    replay(api, kit.published)
    api.assert_content()
    assert not noted(api)
    return api


def noted(api: ApiModel) -> set[Rule]:
    """What is noted but that registrations and heartbeats, of which only the newest counts, have no message id."""
    of_presence = {REGISTRATIONS, HEARTBEATS}
    return {note.rule for note in api.notes if note.rule is not Rule.NO_MESSAGE_ID or note.about not in of_presence}


async def test_of_a_job_that_returns(worker: Worker, autojump_clock: MockClock) -> None:
    @worker.job()
    async def work(ctx: JobContext) -> dict[str, str]:
        ctx.log.info("reading", path="/tmp/x", nested={"a": [1, 2.5, None]})
        await trio.sleep(200)
        return {"text": NASTY}

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()

    occurrence = judged(kit).occurrence(OCCURRENCE)
    assert occurrence.history == [OccurrenceStatus.QUEUED, OccurrenceStatus.RUNNING, OccurrenceStatus.COMPLETED]
    assert occurrence.duration_ms == 200_000
    assert [entry.message for entry in occurrence.logs] == ["reading"]
    assert occurrence.logs[0].data == {"path": "/tmp/x", "nested": {"a": [1, 2.5, None]}}


async def test_of_a_job_that_returns_a_text(worker: Worker, autojump_clock: MockClock) -> None:
    """A text is the result as it is, not JSON, but for what PostgreSQL cannot hold."""

    @worker.job()
    async def work() -> str:
        return NASTY * 10_000

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()

    result = judged(kit).occurrence(OCCURRENCE).result
    assert result is not None
    assert result.startswith("NUL \ufffd, lone")


async def test_of_a_job_that_fails_until_its_retries_are_used_up(worker: Worker, autojump_clock: MockClock) -> None:
    """Retried attempts leave the occurrence Running; the last one makes one Failed and one failed occurrence."""

    @worker.job(max_retries=2, base_retry_delay=60)
    async def work() -> None:
        raise ValueError(NASTY)

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work", job_data=""))
        await kit.run_until_idle()

    api = judged(kit)
    assert api.occurrence(OCCURRENCE).status == OccurrenceStatus.FAILED
    (row,) = api.failed_occurrences
    assert (row.retry_count, row.failure_type) == (2, FailureType.MAX_RETRIES_EXCEEDED)
    assert api.database.jobs[JOB_ID].failures_in_a_row == 1


async def test_of_a_job_that_fails_for_good(worker: Worker, autojump_clock: MockClock) -> None:
    @worker.job()
    async def work(ctx: JobContext) -> None:
        ctx.log.error(NASTY, detail=NASTY, **{NASTY: 1})
        raise PermanentFailure(NASTY * 10_000)

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work", job_data="{}"))
        await kit.run_until_idle()

    (row,) = judged(kit).failed_occurrences
    assert row.failure_type == FailureType.UNHANDLED_EXCEPTION


async def test_of_a_job_that_runs_out_of_time(worker: Worker, autojump_clock: MockClock) -> None:
    @worker.job()
    async def work() -> None:
        await trio.sleep_forever()

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work", timeout=10))
        await kit.run_until_idle()

    api = judged(kit)
    assert api.occurrence(OCCURRENCE).status == OccurrenceStatus.TIMED_OUT
    assert not api.failed_occurrences


async def test_of_jobs_that_are_cancelled_running_and_before_they_start(
    worker: Worker, autojump_clock: MockClock
) -> None:
    worker.settings = evolve(worker.settings, max_parallel_jobs=1)

    @worker.job()
    async def work() -> None:
        await trio.sleep(20)

    async with under_test(worker) as kit:
        for number in (1, 2):
            kit.dispatch(job_message("work", occurrence_id=guid(number)))
        await trio.sleep(1)
        kit.cancel(guid(2))
        await trio.sleep(1)
        kit.cancel(guid(1))
        await kit.run_until_idle()

    api = judged(kit, guid(1), guid(2))
    for number in (1, 2):
        assert api.occurrence(guid(number)).status == OccurrenceStatus.CANCELLED


async def test_of_a_job_that_snoozes_longer_than_a_zombie_lives(worker: Worker, autojump_clock: MockClock) -> None:
    runs = 0

    @worker.job()
    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise Snooze(60)

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()

    assert judged(kit).occurrence(OCCURRENCE).status == OccurrenceStatus.COMPLETED


@pytest.mark.parametrize(
    "message",
    [{"job_name": "missing"}, {"job_name": "work", "job_data": "no JSON"}, {"job_name": "work", "job_data": '{"a":1}'}],
)
async def test_of_a_message_that_cannot_run(
    worker: Worker, autojump_clock: MockClock, message: Mapping[str, Any]
) -> None:
    """An unknown job and data of the wrong form end as Failed with a dead letter that can be stored."""

    @worker.job()
    async def work(data: int) -> None: ...

    async with under_test(worker) as kit:
        kit.dispatch(job_message(**message), to=work)
        await kit.run_until_idle()

    api = judged(kit)
    assert api.occurrence(OCCURRENCE).status == OccurrenceStatus.FAILED
    assert len(api.failed_occurrences) == 1


async def test_of_a_worker_that_leaves_in_the_middle(worker: Worker, autojump_clock: MockClock) -> None:
    """Interrupted work reports no end, and the instance says goodbye."""

    @worker.job()
    async def work() -> None:
        await trio.sleep_forever()

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work"))
        await trio.sleep(5)
        kit.stop()
        await kit.stopped()

    api = judged(kit)
    assert api.occurrence(OCCURRENCE).status == OccurrenceStatus.RUNNING
    assert not api.workers["tests"].is_active


async def test_of_reports_that_are_sent_again_after_a_lost_connection(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """Copies are noted, and are the only thing that is."""

    @worker.job()
    async def work() -> str:
        await trio.sleep(10)
        return "done"

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work"))
        await trio.sleep(9)
        with kit.broker.hold_confirms():
            await trio.sleep(2)
            kit.broker.drop_connection()
        await kit.run_until_idle()

    api = ApiModel()
    api.register_job(JOB_ID, "work")
    api.queued(OCCURRENCE, JOB_ID, VIRTUAL_START.to_datetime().timestamp())
    replay(api, kit.published)
    api.assert_content()
    assert noted(api) == {Rule.COPY}
    assert len(api.occurrence(OCCURRENCE).messages) > len(api.occurrence(OCCURRENCE).wire)
