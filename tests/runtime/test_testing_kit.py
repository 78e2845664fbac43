"""What `milvaion_trio.testing` promises to those who test their jobs with it."""

import subprocess
import sys
from unittest.mock import MagicMock

import pytest
import trio
from attrs import frozen
from tests.support.workers import at
from trio.testing import MockClock

from milvaion_trio import (
    Job,
    JobContext,
    NoCurrentJob,
    NotPublished,
    PermanentFailure,
    RetryLater,
    SettingsError,
    StopReason,
    Worker,
    current_job,
    job,
)
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.messages import LogLevel
from milvaion_trio.model.outcome import Cancelled, Completed, Failed, Interrupted, RetryRequested, TimedOut
from milvaion_trio.testing import run_job, under_test, virtual


@frozen
class Mail:
    to: str
    copies: int = 1


class Mailer:
    def send(self, to: str) -> None:
        raise AssertionError("a test must not send mail")


@job(max_retries=2, base_retry_delay=60, timeout=30)
async def send(ctx: JobContext, mail: Mail, mailer: Mailer) -> str:
    ctx.log.info("sending", to=mail.to, attempt=ctx.attempt)
    mailer.send(mail.to)
    await trio.sleep(mail.copies)
    return f"{mail.copies} sent"


def provided() -> dict[type, object]:
    return {Mailer: MagicMock(spec=Mailer)}


# --- run_job ----------------------------------------------------------------------------------------------------------


async def test_run_job_tells_how_the_job_ended(autojump_clock: MockClock) -> None:
    """Outcome, result, logs and duration, with the data bound as in a worker."""
    given = provided()
    run = await run_job(send, Mail("Ada", 3), provided=given)

    assert run.outcome == Completed("3 sent")
    assert (run.succeeded, run.result, run.error, run.retry_delay, run.duration) == (True, "3 sent", None, None, 3)
    (entry,) = run.logs
    assert (entry.message, entry.level, entry.data) == ("sending", LogLevel.INFORMATION, {"to": "Ada", "attempt": 1})
    assert entry.timestamp == at(0)
    given[Mailer].send.assert_called_once_with("Ada")  # type: ignore[attr-defined] # a mock


async def test_run_job_runs_a_class(autojump_clock: MockClock) -> None:
    """With its constructor parameters provided."""

    class Greet(Job):
        def __init__(self, mailer: Mailer) -> None:
            self.mailer = mailer

        async def execute(self, ctx: JobContext, data: str) -> str:
            return f"hello {data}"

    assert (await run_job(Greet, "Ada", provided=provided())).result == "hello Ada"


async def test_run_job_counts_attempts(autojump_clock: MockClock) -> None:
    """The delay of the next one is the policy's; after the last there is none."""

    @job(max_retries=2, base_retry_delay=10)
    async def fail(ctx: JobContext) -> None:
        raise ValueError(f"attempt {ctx.attempt} of {ctx.max_retries + 1}")

    runs = [await run_job(fail, attempt=attempt) for attempt in (1, 2, 3)]

    assert [run.retry_delay for run in runs] == [10, 20, None]
    assert "attempt 3 of 3" in str(runs[2].error)
    assert (await run_job(fail, attempt=3, max_retries=5)).retry_delay == 40


async def test_run_job_never_raises_what_the_job_raises(autojump_clock: MockClock) -> None:
    """It is in the outcome."""

    @job()
    async def work(data: str) -> None:
        raise {"permanent": PermanentFailure("no"), "later": RetryLater(5), "exit": SystemExit(1)}[data]

    permanent, later, left = [await run_job(work, data) for data in ("permanent", "later", "exit")]

    assert isinstance(permanent.outcome, Failed)
    assert permanent.outcome.permanent
    assert isinstance(later.outcome, RetryRequested)
    assert isinstance(left.outcome, Failed)


async def test_run_job_shows_invalid_data(autojump_clock: MockClock) -> None:
    """As a permanent failure with every mistake."""
    run = await run_job(send, {"copies": "two"}, provided=provided())

    assert isinstance(run.outcome, Failed)
    assert run.outcome.permanent
    assert "copies" in str(run.error)
    assert "to" in str(run.error)


async def test_run_job_stops_at_the_time_limit(autojump_clock: MockClock) -> None:
    """The job's own, or the one given; 0 is none."""
    mail = Mail("Ada", copies=100)

    assert (await run_job(send, mail, provided=provided())).outcome == TimedOut(30, 30)
    assert (await run_job(send, mail, provided=provided(), timeout=7)).outcome == TimedOut(7, 7)
    assert (await run_job(send, mail, provided=provided(), timeout=0)).duration == 100


async def test_run_job_cancels_the_job(autojump_clock: MockClock) -> None:
    """After so many seconds, for the reason given."""
    mail = Mail("Ada", copies=100)

    cancelled = await run_job(send, mail, provided=provided(), cancel_after=5)
    interrupted = await run_job(send, mail, provided=provided(), cancel_after=5, cancel_reason=StopReason.SHUTDOWN)

    assert cancelled.outcome == Cancelled("cancelled by the test")
    assert cancelled.duration == 5
    assert interrupted.outcome == Interrupted()


async def test_run_job_leaves_no_current_job_behind(autojump_clock: MockClock) -> None:
    """The test itself is no job."""
    await run_job(send, Mail("Ada"), provided=provided())

    with pytest.raises(NoCurrentJob):
        current_job()


async def test_run_job_refuses_what_no_worker_would_serve(autojump_clock: MockClock) -> None:
    """A job that asks for what nobody provides has two parameters for data."""
    with pytest.raises(SettingsError):
        await run_job(send, Mail("Ada"))


async def test_run_job_runs_plain_functions_in_a_thread() -> None:
    """In real time."""

    @job()
    def work(ctx: JobContext) -> str:
        ctx.log.info("from a thread")
        return "done"

    run = await run_job(work)

    assert (run.result, [entry.message for entry in run.logs]) == ("done", ["from a thread"])


def test_virtual_takes_no_time() -> None:
    """A day passes at once, without pytest-trio."""

    async def a_day() -> float:
        await trio.sleep(86_400)
        return trio.current_time()

    assert virtual(a_day) == 86_400


# --- under_test -------------------------------------------------------------------------------------------------------


async def test_a_failure_in_the_test_comes_out_as_it_is(worker: Worker, autojump_clock: MockClock) -> None:
    """Not in a group, and the worker has left."""
    with pytest.raises(AssertionError, match="from the test") as caught:
        async with under_test(worker) as kit:
            raise AssertionError("from the test")

    assert caught.value.__cause__ is caught.value.__context__ is None
    assert kit.heartbeats[-1].is_stopping


async def test_a_worker_that_cannot_start_tells_why(worker: Worker, autojump_clock: MockClock) -> None:
    """The error of `serve`, not a group."""

    @worker.job()
    async def work(one: int, two: int) -> None: ...

    with pytest.raises(SettingsError):
        async with under_test(worker):
            pass


async def test_the_worker_stands_on_its_own_ground_again(worker: Worker, autojump_clock: MockClock) -> None:
    """A worker that a module defines can be used by many tests, and served afterwards."""

    def ground() -> list[object]:
        return [worker.settings, worker.broker, worker.signals, worker.providers, worker.observers, worker.clock_ns]

    before = ground()

    async with under_test(worker, provided={Mailer: object()}):
        assert worker.broker is not before[1]

    assert ground() == before


async def test_provided_values_are_given_out_as_they_are(worker: Worker, autojump_clock: MockClock) -> None:
    """Instead of what the worker's providers would make; a mock, which looks like a context manager, is not entered."""
    mailer = MagicMock()
    worker.provide(Mailer, Mailer)
    worker.add(send)

    async with under_test(worker, provided={Mailer: mailer}) as kit:
        occurrence = kit.enqueue(send, Mail("Ada"))
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == "1 sent"
    mailer.send.assert_called_once_with("Ada")
    mailer.__enter__.assert_not_called()


async def test_run_until_idle_returns_at_the_moment_of_the_last_ack(worker: Worker, autojump_clock: MockClock) -> None:
    """Delayed messages and retries included."""

    @worker.job(max_retries=1, base_retry_delay=60)
    async def work(ctx: JobContext) -> None:
        await trio.sleep(0.3)
        if ctx.attempt == 1:
            raise ValueError

    async with under_test(worker) as kit:
        await kit.run_until_idle()
        assert trio.current_time() == 0
        kit.enqueue(work, delay=3600)
        await kit.run_until_idle()

        assert trio.current_time() == pytest.approx(3600 + 0.3 + 60 + 0.3)


async def test_run_until_idle_says_what_is_left(worker: Worker, autojump_clock: MockClock) -> None:
    """When it waits in vain."""

    @worker.job(timeout=0)
    async def work() -> None:
        await trio.sleep_forever()

    async with under_test(worker) as kit:
        kit.enqueue(work)
        with pytest.raises(trio.TooSlowError, match=r"1 in .*\.work\.wildcard \(1 unsettled\), 0 delayed"):
            await kit.run_until_idle(within=60)
        kit.stop()


async def test_enqueue_tells_when_nobody_takes_the_message(worker: Worker, autojump_clock: MockClock) -> None:
    """A mistyped name is not waited for."""

    @worker.job()
    async def work() -> None: ...

    async with under_test(worker) as kit:
        with pytest.raises(NotPublished, match="This worker's jobs: work"):
            kit.enqueue("wrok")


async def test_a_cancelled_test_cancels_the_worker(worker: Worker, autojump_clock: MockClock) -> None:
    """And waits until it has left."""

    @worker.job()
    async def work() -> None:
        await trio.sleep_forever()

    with trio.move_on_after(5) as scope:
        async with under_test(worker) as kit:
            kit.enqueue(work)
            await trio.sleep_forever()

    assert scope.cancelled_caught
    assert trio.current_time() == 5
    assert kit.heartbeats[-1].is_stopping


# --- the plugin -------------------------------------------------------------------------------------------------------


async def test_the_fixtures_share_a_broker(
    milvaion_worker: object, milvaion_broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """Workers of one test see each other's messages."""
    assert callable(milvaion_worker)
    one, two = milvaion_worker("one"), milvaion_worker("two")

    assert one.broker is two.broker is milvaion_broker
    assert one.signals is two.signals


def test_the_plugin_needs_nothing_but_pytest() -> None:
    """A user of the package who never asks for a fixture does not pay for it at the start of pytest."""
    script = (
        "import sys\n"
        "import pytest\n"
        "before = set(sys.modules)\n"
        "import _milvaion_trio_pytest\n"
        "print(sorted(set(sys.modules) - before - {'_milvaion_trio_pytest'}))\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert finished.stdout == "[]\n"


async def test_the_broker_of_the_kit_can_be_lost(worker: Worker, autojump_clock: MockClock) -> None:
    """Faults on demand are the broker's own."""
    async with under_test(worker) as kit:
        with kit.broker.unreachable(), pytest.raises(LinkLost):
            async with kit.broker.publishing():
                pass
