"""What follows a failed attempt: another one at its exact time, or Failed and a dead letter."""

import pytest
import trio
from attrs import frozen
from tests.support.workers import OCCURRENCE, at, job_message, seconds, story
from trio.testing import MockClock

from milvaion_trio import JobContext, JobResult, PermanentFailure, RetryLater, Snooze, Worker
from milvaion_trio.model import headers, topology
from milvaion_trio.model.messages import LogLevel
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.testing import under_test


async def test_retries_come_after_one_two_and_four_times_the_base_delay(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """delay = base * 2^(retry count), the same as a .NET worker's; runs are one more than retries (WIRE.md 6)."""
    started: list[float] = []

    @worker.job(max_retries=3, base_retry_delay=60)
    async def work(ctx: JobContext) -> None:
        started.append(trio.current_time())
        raise ValueError("always")

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await kit.run_until_idle()

    assert started == [0, 60, 180, 420]
    assert [(retry.delay, retry.retry_count) for retry in kit.retries] == [(60, 1), (120, 2), (240, 3)]


async def test_used_up_retries_end_as_failed_with_a_dead_letter(worker: Worker, autojump_clock: MockClock) -> None:
    """In this order: logs, Failed with the times of the last attempt, dead letter (WIRE.md 3.1, 3.5, 3.8)."""

    @worker.job(max_retries=1, base_retry_delay=10)
    async def work() -> None:
        await trio.sleep(1)
        raise ValueError("always")

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work", job_data='{"a":1}'))
        await kit.run_until_idle()

    assert story(kit, OCCURRENCE) == ["RUNNING", "logs", "retry", "RUNNING", "logs", "FAILED", "dead letter"]
    final = kit.occurrence(OCCURRENCE).final
    assert final is not None
    assert (final.start_time, final.end_time, final.duration_ms, final.result) == (at(11), at(12), 1000, None)
    assert str(final.exception).startswith(
        "Max retries (1) exceeded. Original exception: Type: ValueError\nMessage: always\nStackTrace: "
    )
    (letter,) = kit.dead_letters
    assert (letter.id, letter.display_name, letter.job_name_in_worker) == (kit.statuses[0].job_id, "A job", "work")
    assert (letter.job_data, letter.status, letter.exception) == ('{"a":1}', OccurrenceStatus.FAILED, final.exception)
    (sent,) = kit.sent_to(topology.DEAD_LETTER_EXCHANGE)
    assert sent.message.correlation_id == OCCURRENCE
    assert {name: sent.message.headers[name] for name in (headers.RETRY_COUNT, headers.MAX_RETRIES)} == {
        headers.RETRY_COUNT: 1,
        headers.MAX_RETRIES: 1,
    }
    assert kit.broker.queue(topology.FAILED_QUEUE).depth == 1


async def test_the_log_tells_of_the_failure_and_of_the_next_try(worker: Worker, autojump_clock: MockClock) -> None:
    """The entries of WIRE.md 3.3, with the names of the .NET worker in their data."""

    @worker.job(max_retries=1, base_retry_delay=10)
    async def work() -> None:
        raise ValueError("always")

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await kit.run_until_idle()

    failure, retry, _, used_up = (record.log for record in kit.logs)
    assert (failure.message, failure.level, failure.category, failure.exception_type) == (
        "always",
        LogLevel.ERROR,
        "UserDefined",
        "ValueError",
    )
    assert retry.data == {
        "RetryAttempt": 1,
        "MaxRetries": 1,
        "DelaySeconds": 10,
        "NextRetryTime": at(10).text,
    }
    assert used_up.data == {"TotalRetries": 1, "FinalStatus": "MovedToDLQ"}


async def test_the_error_text_shows_the_frames_of_the_job_only(worker: Worker, autojump_clock: MockClock) -> None:
    """The runtime's own frames tell a job's author nothing."""

    @worker.job(max_retries=0)
    async def work() -> None:
        raise ValueError("always")

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    text = kit.occurrence(occurrence).exception or ""
    assert __file__ in text
    assert "runtime/executor.py" not in text


async def test_the_retry_copy_is_the_same_message_with_new_counts(worker: Worker, autojump_clock: MockClock) -> None:
    """Body, properties and foreign headers stay; counts are whole numbers for AMQP's int32 (WIRE.md 3.8)."""

    @worker.job(max_retries=2, base_retry_delay=5)
    async def work(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            raise ValueError("once")

    original = job_message("work", job_data="[1]", timestamp=77, Foreign="kept", x_death="dropped")
    async with under_test(worker) as kit:
        kit.dispatch(original)
        await kit.run_until_idle()

    (retry,) = kit.retries
    copy = retry.message
    assert (copy.body, copy.timestamp, copy.correlation_id) == (original.body, 77, OCCURRENCE)
    assert copy.headers == {
        "Foreign": "kept",
        headers.OCCURRENCE_ID: OCCURRENCE,
        headers.CORRELATION_ID: OCCURRENCE,
        headers.RETRY_COUNT: 1,
        headers.MAX_RETRIES: 2,
        headers.DISPATCH_STAMP: "77",
        headers.SNOOZES: 0,
    }
    assert type(copy.headers[headers.RETRY_COUNT]) is type(copy.headers[headers.MAX_RETRIES]) is int


async def test_a_waiting_retry_holds_no_slot(worker: Worker, autojump_clock: MockClock) -> None:
    """The copy waits in the broker, not in the worker: another job runs meanwhile."""

    @worker.job(max_parallel=1, max_retries=1, base_retry_delay=100)
    async def work(ctx: JobContext, fails: bool) -> None:
        if fails:
            raise ValueError

    async with under_test(worker) as kit:
        kit.enqueue(work, True)
        other = kit.enqueue(work, False)
        await trio.sleep(1)

        assert kit.occurrence(other).status is OccurrenceStatus.COMPLETED
        assert kit.broker.delayed == 1


async def test_a_permanent_failure_is_never_retried(worker: Worker, autojump_clock: MockClock) -> None:
    """Failed at once; the dead letter says so with its prefix and MaxRetries 0 (WIRE.md 3.5)."""

    @worker.job(max_retries=5)
    async def work() -> None:
        raise PermanentFailure("no such customer")

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert story(kit, occurrence) == ["RUNNING", "logs", "FAILED", "dead letter"]
    text = kit.occurrence(occurrence).exception or ""
    assert text.startswith("Type: milvaion_trio.model.errors.PermanentFailure\nMessage: no such customer\n")
    assert kit.dead_letters[0].exception == f"[PERMANENT FAILURE] {text}"
    (sent,) = kit.sent_to(topology.DEAD_LETTER_EXCHANGE)
    assert (sent.message.headers[headers.RETRY_COUNT], sent.message.headers[headers.MAX_RETRIES]) == (0, 0)


async def test_an_exception_that_is_never_to_be_retried_is_permanent(worker: Worker, autojump_clock: MockClock) -> None:
    """`never_retry` names exceptions that no retry can help, their subclasses included."""

    @worker.job(max_retries=5, never_retry=[LookupError])
    async def work() -> None:
        raise KeyError("customer")

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.retries == ()
    assert kit.occurrence(occurrence).status is OccurrenceStatus.FAILED
    assert str(kit.dead_letters[0].exception).startswith("[PERMANENT FAILURE] Type: KeyError")


async def test_a_permanent_failure_inside_a_group_is_permanent(worker: Worker, autojump_clock: MockClock) -> None:
    """A nursery in the job wraps what its children raise; what they ask for still counts."""

    @worker.job(max_retries=5)
    async def work() -> None:
        raise ExceptionGroup("two", [ValueError("one"), PermanentFailure("other")])

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.retries == ()
    assert "Message: one" in str(kit.dead_letters[0].exception)
    assert "Message: other" in str(kit.dead_letters[0].exception)


async def test_retry_later_waits_exactly_as_long_as_it_says(worker: Worker, autojump_clock: MockClock) -> None:
    """Its delay replaces the policy's, and it counts as an attempt."""
    started: list[float] = []

    @worker.job(max_retries=2, base_retry_delay=60)
    async def work(ctx: JobContext) -> str:
        started.append(trio.current_time())
        if ctx.attempt == 1:
            raise RetryLater(7.5, "rate limited")
        return f"attempt {ctx.attempt}"

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert started == [0, 7.5]
    assert kit.occurrence(occurrence).result == "attempt 2"


async def test_retry_later_stops_at_max_retries(worker: Worker, autojump_clock: MockClock) -> None:
    """A job cannot ask for ever."""

    @worker.job(max_retries=2)
    async def work() -> None:
        raise RetryLater(1, "rate limited")

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert [retry.delay for retry in kit.retries] == [1, 1]
    assert kit.occurrence(occurrence).status is OccurrenceStatus.FAILED
    assert "Max retries (2) exceeded" in str(kit.occurrence(occurrence).exception)
    assert "rate limited" in str(kit.occurrence(occurrence).exception)


async def test_snooze_does_not_count_as_an_attempt(worker: Worker, autojump_clock: MockClock) -> None:
    """The next run has the same retry count, is a run of its own, and no failure was told."""
    attempts: list[tuple[float, int]] = []

    @worker.job(max_retries=0)
    async def work(ctx: JobContext) -> str:
        attempts.append((trio.current_time(), ctx.attempt))
        if len(attempts) < 4:
            raise Snooze(30)
        return "at last"

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert attempts == [(0, 1), (30, 1), (60, 1), (90, 1)]
    assert kit.occurrence(occurrence).result == "at last"
    assert [retry.message.headers[headers.SNOOZES] for retry in kit.retries] == [1, 2, 3]
    assert kit.dead_letters == ()


@pytest.mark.parametrize("request_later", [RetryLater(3, "busy"), Snooze(3)])
async def test_a_request_from_inside_a_nursery_of_the_job_counts(
    worker: Worker, autojump_clock: MockClock, request_later: Exception
) -> None:
    """One exception in a group of one is that exception."""

    @worker.job()
    async def work(ctx: JobContext) -> None:
        async def ask() -> None:
            raise request_later

        if trio.current_time() == 0:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await kit.run_until_idle()

    assert [retry.delay for retry in kit.retries] == [3]


async def test_a_returned_failure_is_retried(worker: Worker, autojump_clock: MockClock) -> None:
    """`JobResult.failure` is a failure without an exception."""

    @worker.job(max_retries=1, base_retry_delay=1)
    async def work() -> JobResult:
        return JobResult.failure("nothing to send")

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert len(kit.retries) == 1
    assert kit.occurrence(occurrence).exception == "Max retries (1) exceeded. Original exception: nothing to send"


async def test_invalid_data_is_permanent_and_every_mistake_is_listed(worker: Worker, autojump_clock: MockClock) -> None:
    """A retry would read the same data again; whoever wrote it wants to know all that is wrong with it."""
    ran = False

    @frozen
    class Mail:
        to: str
        copies: int

    @worker.job(max_retries=5)
    async def work(mail: Mail) -> None:
        nonlocal ran
        ran = True

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work, {"to": 5, "copies": "two"})
        await kit.run_until_idle()

    view = kit.occurrence(occurrence)
    assert (view.status, view.retries, ran) == (OccurrenceStatus.FAILED, (), False)
    assert "to" in str(view.exception)
    assert "copies" in str(view.exception)
    assert len(view.dead_letters) == 1


async def test_a_retry_count_from_a_message_is_believed(worker: Worker, autojump_clock: MockClock) -> None:
    """A job may fail in one language and be retried in the other."""

    @worker.job(max_retries=3, base_retry_delay=60)
    async def work(ctx: JobContext) -> None:
        raise ValueError(f"attempt {ctx.attempt}")

    async with under_test(worker) as kit:
        kit.dispatch(job_message("work", x_retry_count=2))
        await kit.run_until_idle()

    assert [(retry.delay, retry.retry_count) for retry in kit.retries] == [(240, 3)]
    assert "attempt 4" in str(kit.occurrence(OCCURRENCE).exception)


async def test_no_running_follows_the_final_status(worker: Worker, autojump_clock: MockClock) -> None:
    """A Running behind the final status erases it on the API (WIRE.md 3.8, last lines)."""

    @worker.job(max_retries=2, base_retry_delay=61)
    async def work() -> None:
        await trio.sleep(61)
        raise ValueError

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await kit.run_until_idle()
        await trio.sleep(600)

    times = [seconds(status.message_timestamp) or 0 for status in kit.statuses]
    assert times == sorted(times)
    assert [status.status for status in kit.statuses if status.start_time][-1] is OccurrenceStatus.FAILED
    assert kit.statuses[-1].status is OccurrenceStatus.FAILED
