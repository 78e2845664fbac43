"""A defect of the runtime itself costs one message, never the worker."""

import pytest
import trio
from trio.testing import MockClock

from milvaion_trio import Worker
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.wire import status_body
from milvaion_trio.policy import lifecycle
from milvaion_trio.runtime import reporting
from milvaion_trio.testing import under_test


class Odd:
    """Nothing in it can be looked at."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


async def test_an_outcome_that_cannot_be_reported_is_reported_as_a_failure(
    worker: Worker, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The job's message is settled, the log has the traceback, and the next job is served."""

    @worker.job()
    async def work(data: str) -> str:
        return data

    def encode_or_fail(*values: object) -> bytes:
        if "unspeakable" in values:
            raise OSError("a defect")
        return status_body(*values)  # type: ignore[arg-type]  # only passed through

    monkeypatch.setattr(reporting, "status_body", encode_or_fail)
    async with under_test(worker) as kit:
        broken = kit.enqueue(work, "unspeakable")
        fine = kit.enqueue(work, "fine")
        await kit.run_until_idle()

    assert kit.occurrence(broken).status is OccurrenceStatus.FAILED
    assert "a defect" in str(kit.occurrence(broken).exception)
    assert kit.occurrence(fine).status is OccurrenceStatus.COMPLETED
    assert "could not be reported" in caplog.text


async def test_a_message_that_cannot_be_judged_is_set_aside(
    worker: Worker, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes to quarantine, and the intake takes the next one."""

    @worker.job()
    async def work() -> None:
        pass

    admit = lifecycle.admit
    calls = 0

    def admit_or_fail(*args: object, **kwargs: object) -> lifecycle.Admission:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("a defect")
        return admit(*args, **kwargs)  # type: ignore[arg-type]  # only passed through

    monkeypatch.setattr(lifecycle, "admit", admit_or_fail)
    async with under_test(worker) as kit:
        kit.enqueue(work)
        fine = kit.enqueue(work)
        await kit.run_until_idle()

    assert [message.headers["x-mtrio-problem"] for message in kit.quarantined] == [
        "OSError while the message was judged: a defect"
    ]
    assert kit.occurrence(fine).status is OccurrenceStatus.COMPLETED
    assert "could not be judged" in caplog.text


async def test_a_result_that_nobody_can_look_at_is_still_a_result(worker: Worker, autojump_clock: MockClock) -> None:
    """The work is done, so it is Completed, and the job's log says what was reported instead."""

    @worker.job()
    async def work() -> object:
        await trio.sleep(1)
        return Odd()

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    view = kit.occurrence(occurrence)
    assert view.status is OccurrenceStatus.COMPLETED
    assert view.result == "<Odd, whose repr raises RuntimeError>"
    assert any("has no JSON form" in record.log.message for record in view.logs)
