"""`max_jobs_per_process`: a process runs exactly that many jobs, then leaves in order; none is cut off for it."""

import trio
from attrs import evolve
from tests.support.workers import job_message
from trio.testing import MockClock

from milvaion_trio import Worker
from milvaion_trio.model import events
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.runtime import dispatch
from milvaion_trio.testing import under_test


def limited(worker: Worker, jobs: int, at_once: int = 10) -> Worker:
    worker.settings = evolve(worker.settings, max_jobs_per_process=jobs, max_parallel_jobs=at_once)
    return worker


async def test_exactly_so_many_jobs_run_and_the_rest_stays(worker: Worker, autojump_clock: MockClock) -> None:
    """Although there is room for more at once, and although the last messages are in the worker's hands already."""

    @limited(worker, 5).job(max_parallel=8)
    async def work(data: int) -> int:
        await trio.sleep(1)
        return data

    async with under_test(worker) as kit:
        occurrences = [kit.enqueue(work, number) for number in range(8)]
        await kit.stopped()

        assert trio.current_time() == 1
        assert [kit.occurrence(each).status for each in occurrences[:5]] == [OccurrenceStatus.COMPLETED] * 5
        assert [kit.occurrence(each).statuses for each in occurrences[5:]] == [()] * 3
        assert (len(kit.queue(work).ready), kit.queue(work).unacked) == (3, 0)
        assert [event for event in kit.events if isinstance(event, events.JobLimitReached)] == [
            events.JobLimitReached(5)
        ]


async def test_jobs_in_flight_may_take_as_long_as_they_need(worker: Worker, autojump_clock: MockClock) -> None:
    """Longer than a drain lets them; no other job begins meanwhile, and the worker says why it is not ready."""

    @limited(worker, 2).job(max_parallel=2, timeout=0)
    async def work(data: float) -> str:
        await trio.sleep(data)
        return "done"

    async with under_test(worker) as kit:
        short, long = kit.enqueue(work, 1), kit.enqueue(work, 3600)
        await trio.sleep(60)
        late = kit.enqueue(work, 1)
        await trio.sleep(60)

        assert worker.readiness.problems == {"job limit": "the process has begun 2 jobs, as many as it may run"}
        await kit.stopped()

        assert trio.current_time() == 3600
        assert [kit.occurrence(each).result for each in (short, long)] == ["done", "done"]
        assert kit.occurrence(late).statuses == ()


async def test_others_have_what_waited_for_a_slot_at_once(worker: Worker, autojump_clock: MockClock) -> None:
    """The process that has no job left for it keeps no message while its last one runs."""

    @limited(worker, 1, at_once=1).job(max_parallel=3)
    async def work() -> None:
        await trio.sleep(100)

    async with under_test(worker) as kit:
        for _ in range(3):
            kit.enqueue(work)
        await trio.sleep(1)

        assert (len(kit.queue(work).ready), kit.queue(work).unacked) == (2, 1)


async def test_the_limit_holds_for_all_jobs_together(worker: Worker, autojump_clock: MockClock) -> None:
    """Jobs of several queues, some of which wait for a slot when it is reached."""
    limited(worker, 3, at_once=2)
    begun: list[str] = []

    async def run(data: str) -> None:
        begun.append(data)
        await trio.sleep(1)

    first, second = (worker.job(name, max_parallel=3)(run) for name in ("First", "Second"))

    async with under_test(worker) as kit:
        for number in range(3):
            kit.enqueue(first, f"first {number}")
            kit.enqueue(second, f"second {number}")
        await kit.stopped()

        left = len(kit.queue(first).ready) + len(kit.queue(second).ready)

    assert len(begun) == 3
    assert left == 3


async def test_attempts_count_like_jobs_and_refused_messages_do_not(worker: Worker, autojump_clock: MockClock) -> None:
    """What leaks is code that runs."""
    attempts = 0

    @limited(worker, 2).job(max_retries=3, base_retry_delay=1)
    async def work() -> None:
        nonlocal attempts
        attempts += 1
        raise RuntimeError

    async with under_test(worker) as kit:
        kit.dispatch(job_message("NoSuchJob"), to=work)
        kit.enqueue(work)
        await kit.stopped()

    assert attempts == 2


async def test_without_a_limit_it_stays(worker: Worker, autojump_clock: MockClock) -> None:
    @worker.job(max_parallel=5)
    async def work() -> None: ...

    async with under_test(worker) as kit:
        for _ in range(2 * dispatch.STARTS_PER_PASS):
            kit.enqueue(work)
        await kit.run_until_idle()

        assert worker.readiness.is_ready
