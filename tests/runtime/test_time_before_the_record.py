"""What a job waits for its start to be on record, before its code runs, and its time limit."""

import pytest
import trio
from tests.support.outboxes import RememberingOutbox, given_to_workers
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio import JobContext, Worker
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.testing import under_test


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> RememberingOutbox:
    return given_to_workers(monkeypatch)


@pytest.mark.parametrize(("waited", "left"), [(30.0, 60.0), (0.7, 60.0), (0.5, 59.5), (0.0, 60.0)])
async def test_a_long_wait_does_not_use_up_the_limit(
    worker: Worker, outbox: RememberingOutbox, autojump_clock: MockClock, waited: float, left: float
) -> None:
    """More than a hundredth of the limit is given back. Sabotage: never set the deadline anew."""
    seen: list[float] = []

    @worker.job("work", timeout=60)
    async def work(ctx: JobContext) -> None:
        assert ctx.deadline is not None
        seen.append(ctx.deadline - trio.current_time())
        await trio.sleep_forever()

    outbox.writable = trio.Event()
    async with under_test(worker) as kit:
        occurrence = kit.enqueue("work")
        await wait_all_tasks_blocked()
        await trio.sleep(waited)
        outbox.writable.set()
        await kit.run_until_idle()
        final = kit.occurrence(occurrence).final

    assert seen == pytest.approx([left])
    assert final is not None
    assert final.status is OccurrenceStatus.TIMED_OUT
    assert final.duration_ms == pytest.approx((waited + left) * 1000, abs=1)
