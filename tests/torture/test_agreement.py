"""A monitor and a Milvaion API that get the same messages know the same, and where they do not, it is noticed."""

from collections.abc import Callable

import pytest
import trio
from attrs import evolve
from tests.support.api_model import ApiModel
from tests.support.api_model.publications import replay
from tests.support.workers import JOB_ID, guid, job_message
from torture.agreement import Heard, disagreements
from trio.testing import MockClock

from milvaion_trio import JobContext, PermanentFailure, Worker
from milvaion_trio.model.history import LogLine, OccurrenceRecord
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.policy import keeping, tracking
from milvaion_trio.testing import VIRTUAL_START, under_test


async def heard_by_an_api() -> tuple[Heard, ApiModel]:
    """What a worker tells of jobs that end in all ways, as an API got it. If cancelled, nothing was heard."""
    worker = Worker("tests", observers=())

    @worker.job(max_retries=1, base_retry_delay=5, timeout=100)
    async def work(ctx: JobContext, data: str) -> str:
        ctx.log.info(data)
        await trio.sleep(2)
        if data == "retried" and ctx.attempt == 1:
            raise RuntimeError("not yet")
        if data == "permanent":
            raise PermanentFailure("never")
        if data == "slow":
            await trio.sleep_forever()
        return data

    endings = ["good", "retried", "permanent", "slow", "cancelled"]
    async with under_test(worker) as kit:
        for number, ending in enumerate(endings, 1):
            kit.dispatch(job_message("work", job_data=f'"{ending}"', occurrence_id=guid(number)))
        await trio.sleep(1)
        kit.cancel(guid(5))
        await kit.run_until_idle()
    model = ApiModel()
    heard = Heard.by(model)
    model.register_job(JOB_ID, "work", display_name="A job")
    for number in range(1, len(endings) + 1):
        model.queued(guid(number), JOB_ID, VIRTUAL_START.to_datetime().timestamp())
    replay(model, kit.published)
    return heard, model


async def test_they_agree(autojump_clock: MockClock) -> None:
    heard, model = await heard_by_an_api()

    assert list(disagreements(heard, model)) == []
    assert {one.status for one in model.database.occurrences.values()} == {2, 3, 4, 5}


seen = tracking.status_seen


def without_results(*arguments: object) -> OccurrenceRecord:
    return evolve(seen(*arguments), result=None)  # type: ignore[arg-type]  # as it is called


def never_timed_out(row: OccurrenceRecord | None, status: object, now: object) -> OccurrenceRecord:
    after = seen(row, status, now)  # type: ignore[arg-type]  # as it is called
    return evolve(after, status=OccurrenceStatus.FAILED) if after.status == OccurrenceStatus.TIMED_OUT else after


def no_lines(*arguments: object) -> list[LogLine]:
    return []


@pytest.mark.parametrize(
    ("where", "sabotage", "words"),
    [
        (tracking, without_results, "result of"),
        (tracking, never_timed_out, "status of"),
        (keeping, no_lines, "lines instead of"),
    ],
)
async def test_what_a_monitor_gets_wrong_is_noticed(
    where: object,
    sabotage: Callable[..., object],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    heard, model = await heard_by_an_api()
    monkeypatch.setattr(where, "lines_of" if where is keeping else "status_seen", sabotage)

    assert any(words in one for one in disagreements(heard, model))
