"""Cancel signals: for what runs, for what waits, for what is still to come, and while none can be heard."""

import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
from tests.support.workers import OCCURRENCE, guid, job_message, story
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio import JobContext, Worker
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.messages import Cancellation, LogEntry
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.policy.ledger import Ledger
from milvaion_trio.runtime.cancellation import CancelListener
from milvaion_trio.runtime.run import Run
from milvaion_trio.signals.local import LocalSignals
from milvaion_trio.testing import VIRTUAL_START, WorkerUnderTest, under_test


async def test_a_queued_job_is_cancelled_before_it_starts(worker: Worker, autojump_clock: MockClock) -> None:
    """The signal is remembered; when the message comes, it ends as Cancelled and the job's code never runs."""
    ran: list[object] = []

    @worker.job(max_parallel=1)
    async def work(ctx: JobContext) -> None:
        ran.append(ctx.occurrence_id)
        await trio.sleep(10)

    async with under_test(worker) as kit:
        first = kit.enqueue(work)
        second = kit.enqueue(work)
        await trio.sleep(1)
        kit.cancel(second, "second thoughts")
        await kit.run_until_idle()

    assert ran == [first]
    view = kit.occurrence(second)
    assert story(kit, second) == ["logs", "CANCELLED"]
    assert view.result == "work was cancelled before it started: second thoughts"
    assert view.final is not None
    assert (view.final.start_time, view.final.duration_ms) == (None, None)


async def test_a_job_that_waits_for_its_retry_is_cancelled(worker: Worker, autojump_clock: MockClock) -> None:
    """The copy ends as Cancelled when it is delivered; there is no further attempt."""
    runs = 0

    @worker.job(base_retry_delay=60)
    async def work() -> None:
        nonlocal runs
        runs += 1
        raise ValueError

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(30)
        kit.cancel(occurrence)
        await kit.run_until_idle()

    assert runs == 1
    assert story(kit, occurrence) == ["RUNNING", "logs", "retry", "logs", "CANCELLED"]


async def test_a_cancel_for_an_unknown_occurrence_does_no_harm(worker: Worker, autojump_clock: MockClock) -> None:
    """Every instance hears the cancels of all workers."""

    @worker.job()
    async def work() -> None:
        await trio.sleep(2)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(1)
        kit.cancel(guid(1))
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.COMPLETED
    assert kit.occurrence(guid(1)).statuses == ()


async def test_a_second_cancel_changes_nothing(worker: Worker, autojump_clock: MockClock) -> None:
    """The first reason stays, and the job is not disturbed in its clean-up."""

    @worker.job()
    async def work(ctx: JobContext) -> None:
        try:
            await trio.sleep_forever()
        finally:
            async with ctx.cleanup():
                await trio.sleep(3)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(1)
        kit.cancel(occurrence, "first")
        await trio.sleep(1)
        kit.cancel(occurrence, "second")
        await kit.run_until_idle()

    view = kit.occurrence(occurrence)
    assert [status.status for status in view.statuses] == [OccurrenceStatus.RUNNING, OccurrenceStatus.CANCELLED]
    assert view.result == "work was cancelled: first"
    assert view.final is not None
    assert view.final.duration_ms == 4000


async def test_a_cancel_after_the_end_does_not_reach_the_next_occurrence(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """An occurrence that is concluded stays as it is."""

    @worker.job()
    async def work() -> None: ...

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()
        kit.cancel(occurrence)
        await wait_all_tasks_blocked()
        other = kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.COMPLETED
    assert kit.occurrence(other).status is OccurrenceStatus.COMPLETED


@pytest.mark.parametrize(("dispatched", "status"), [(9, OccurrenceStatus.CANCELLED), (11, OccurrenceStatus.COMPLETED)])
async def test_a_cancel_applies_to_what_was_dispatched_before_it(
    worker: Worker, autojump_clock: MockClock, dispatched: int, status: OccurrenceStatus
) -> None:
    """A workflow dispatches an occurrence again, which is a new wish to run it (DESIGN.md 5.1, WIRE.md 12.1)."""
    start = int(VIRTUAL_START.to_datetime().timestamp())

    @worker.job()
    async def work() -> None: ...

    async with under_test(worker) as kit:
        await trio.sleep(10)
        kit.cancel(OCCURRENCE)
        await trio.sleep(10)
        kit.dispatch(job_message("work", timestamp=start + dispatched))
        await kit.run_until_idle()

    assert kit.occurrence(OCCURRENCE).status is status


async def test_jobs_go_on_while_no_signal_can_be_heard(worker: Worker, autojump_clock: MockClock) -> None:
    """Signals are advisory; the worker listens again as soon as it can."""

    @worker.job(timeout=0)
    async def work() -> None:
        await trio.sleep(500)

    async with under_test(worker) as kit:
        first = kit.enqueue(work)
        with kit.signals.unreachable():
            await trio.sleep(100)
            second = kit.enqueue(work)
            await wait_all_tasks_blocked()
            assert kit.occurrence(second).status is OccurrenceStatus.RUNNING
        await trio.sleep(31)
        kit.cancel(second)
        await kit.run_until_idle()

    assert kit.occurrence(first).status is OccurrenceStatus.COMPLETED
    assert kit.occurrence(second).status is OccurrenceStatus.CANCELLED


async def test_a_worker_starts_without_signals(worker: Worker, autojump_clock: MockClock) -> None:
    """Redis absent is a warning, never fatal (DESIGN.md 2)."""
    signals = LocalSignals()

    @worker.job()
    async def work() -> str:
        return "done"

    with signals.unreachable(), trio.fail_after(60):
        async with under_test(worker, signals=signals) as kit:
            occurrence = kit.enqueue(work)
            await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == "done"


# --- outages --------------------------------------------------------------------------------------------------------


def told_of_outages(kit: WorkerUnderTest, occurrence: OccurrenceId) -> list[LogEntry]:
    return [record.log for record in kit.occurrence(occurrence).logs if record.log.category == "Cancellation"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "cancel signals" in record.getMessage()]


async def test_an_outage_is_measured_and_told_once(
    worker: Worker, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its begin with the reason and its end with its length, however often was tried (RELIABILITY.md F12)."""

    @worker.job(timeout=0)
    async def work() -> None:
        await trio.sleep(500)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await trio.sleep(1)
        for _ in range(2):
            with kit.signals.unreachable():
                await trio.sleep(100)
            await trio.sleep(40)
        assert worker._house is not None
        outages, deaf = worker._house.listener.outages, worker._house.listener.deaf_seconds

    lost, heard, lost_again, heard_again = warnings(caplog)
    assert lost == lost_again
    assert "cannot be heard: the local signals were lost; jobs go on" in lost
    assert outages == 2
    assert 200 <= deaf <= 260
    told = [float(text.split("last ")[1].split(" s ")[0]) for text in (heard, heard_again)]
    assert sum(told) == pytest.approx(deaf, abs=0.1)
    assert heard.endswith("(jobs running: 1)")


async def test_an_outage_is_in_the_log_of_every_job_that_ran_meanwhile(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """Of those that ran on, once it is over; of those that ended before that, at their end (RELIABILITY.md F13).

    With the part of the outage that they ran in, and before their final status.
    """

    @worker.job(timeout=0, max_parallel=5)
    async def work(ctx: JobContext, seconds: float) -> None:
        await trio.sleep(seconds)

    async with under_test(worker) as kit:
        before = kit.enqueue(work, 5)
        throughout = kit.enqueue(work, 500)
        ended = kit.enqueue(work, 50)
        await trio.sleep(10)
        with kit.signals.unreachable():
            await trio.sleep(60)
            started = kit.enqueue(work, 500)
            inside = kit.enqueue(work, 10)
            await trio.sleep(40)
        await trio.sleep(31)
        after = kit.enqueue(work, 1)
        await kit.run_until_idle()

    (entry,) = told_of_outages(kit, throughout)
    assert entry.level == "Warning"
    assert entry.message.startswith("For ")
    assert entry.data is not None
    length = float(str(entry.data["DeafSeconds"]))
    assert 100 <= length <= 130
    seconds = {
        name: [entry.data and entry.data["DeafSeconds"] for entry in told_of_outages(kit, occurrence)]
        for name, occurrence in {"ended": ended, "started": started, "inside": inside}.items()
    }
    assert seconds == {"ended": [40.0], "started": [pytest.approx(length - 60)], "inside": [10.0]}
    assert told_of_outages(kit, before) == told_of_outages(kit, after) == []
    assert story(kit, ended) == ["RUNNING", "logs", "COMPLETED"]


async def test_no_outage_is_told_of_an_occurrence_that_milvaion_does_not_know(
    worker: Worker, autojump_clock: MockClock
) -> None:
    @worker.job(timeout=0)
    async def work() -> None:
        await trio.sleep(50)

    async with under_test(worker, local_occurrences=False) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(1)
        with kit.signals.unreachable():
            await trio.sleep(100)

    assert story(kit, occurrence) == []


async def test_the_silence_before_a_loss_counts_as_deaf(
    worker: Worker, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A black hole is noticed late, and what was sent into it is lost too."""

    class SilentFor8Seconds(LocalSignals):
        @asynccontextmanager
        async def cancellations(self) -> AsyncIterator[AsyncIterator[Cancellation]]:
            try:
                async with super().cancellations() as heard:
                    yield heard
            except LinkLost as lost:
                raise LinkLost(str(lost), 8.0) from lost

    signals = SilentFor8Seconds()
    ledger = Ledger[Run]()
    reporter = None
    listener = CancelListener(signals, ledger, reporter, trio.current_time)  # type: ignore[arg-type]  # no job runs
    async with listener.listening():
        await trio.sleep(20)
        with signals.unreachable():
            await trio.sleep(10)
        await trio.sleep(31)

    assert 18 <= listener.deaf_seconds <= 50
    assert "was not heard" in warnings(caplog)[-1]


async def test_a_short_loss_after_a_long_outage_is_short(
    worker: Worker, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The waits between the tries begin small again."""
    caplog.set_level(logging.WARNING, "milvaion_trio.runtime")
    async with under_test(worker) as kit:
        with kit.signals.unreachable():
            await trio.sleep(600)
        await trio.sleep(60)
        caplog.clear()
        with kit.signals.unreachable():
            await wait_all_tasks_blocked()
        await trio.sleep(0.7)

    assert [("cannot be heard" in text, "heard again" in text) for text in caplog.messages[:2]] == [
        (True, False),
        (False, True),
    ]


async def test_one_signal_cancels_every_run_of_the_occurrence(worker: Worker, autojump_clock: MockClock) -> None:
    """A workflow may have dispatched it again while its first run still waits for confirms or runs elsewhere."""
    ledger = Ledger[Run]()
    stopped: list[str] = []

    class FakeRun:
        def __init__(self, name: str) -> None:
            self.name = name

        def stop(self, reason: object, text: str) -> None:
            stopped.append(self.name)

    for number, name in enumerate(["first", "second"]):
        ledger.add(AttemptKey(OCCURRENCE, str(number), 0, 0), cast("Run", FakeRun(name)))
    async with under_test(worker) as kit:
        assert kit.worker._house is not None
        listener = CancelListener(LocalSignals(), ledger, kit.worker._house.reporter, lambda: 0.0)
        listener._cancel(Cancellation(occurrence_id=OCCURRENCE))

    assert stopped == ["first", "second"]


async def test_the_start_is_held_up_by_one_try_only(worker: Worker, autojump_clock: MockClock) -> None:
    """Subscribed before anything is consumed where that is possible, and never later than one connect timeout."""

    class Slow(LocalSignals):
        @asynccontextmanager
        async def cancellations(self) -> AsyncIterator[AsyncIterator[Cancellation]]:
            await trio.sleep(5)
            raise LinkLost("no answer")
            yield  # it is a generator

    @worker.job()
    async def work() -> str:
        return "done"

    began = trio.current_time()
    with trio.fail_after(60):
        async with under_test(worker, signals=Slow()) as kit:
            assert trio.current_time() - began == pytest.approx(5)
            occurrence = kit.enqueue(work)
            await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == "done"


async def test_listening_again_is_spread_out(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Workers that lost the same server drift apart, and nobody hammers it."""
    tries: list[float] = []

    class Absent(LocalSignals):
        @asynccontextmanager
        async def cancellations(self) -> AsyncIterator[AsyncIterator[Cancellation]]:
            tries.append(trio.current_time())
            raise LinkLost("refused")
            yield  # it is a generator

    caplog.set_level(logging.INFO)
    listener = CancelListener(Absent(), Ledger[Run](), None, trio.current_time)  # type: ignore[arg-type]  # no job runs
    async with listener.listening():
        await trio.sleep(600)

    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert 40 <= len(tries) <= 400
    assert min(waits) >= 0.2
    assert max(waits) <= 30
    assert len(set(waits)) > 5
    assert len(warnings(caplog)) == 1
    assert listener.deaf_seconds == pytest.approx(600)
